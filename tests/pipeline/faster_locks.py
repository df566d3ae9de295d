"""Importing this module makes DVC read YAML once and write it as JSON, which is YAML too.

DVC parses params.yaml and dvc.lock several times for each stage, and preserves comments in dvc.lock, which has none.
That takes longer than most stages of the tests.
"""

from __future__ import annotations

import copy
import functools
import json
from typing import Any, TextIO

from dvc.utils.serialize import _yaml

_parse_once = functools.lru_cache(maxsize=32)(_yaml.parse_yaml)


def _parse(text: str, path: str, typ: str = "safe") -> Any:
    return json.loads(text) if text.startswith("{") else copy.deepcopy(_parse_once(text, path))


def _dump(data: Any, stream: TextIO) -> None:
    stream.write(json.dumps(data))


assert callable(_yaml.parse_yaml_for_update)
assert callable(_yaml._dump)
_yaml.parse_yaml, _yaml.parse_yaml_for_update, _yaml._dump = _parse, _parse, _dump
