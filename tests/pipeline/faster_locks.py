"""Importing this module makes DVC read and write dvc.lock without preserving comments.

DVC preserves them after each stage, which takes two seconds, but dvc.lock has none.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from dvc.utils.serialize import _yaml
from ruamel.yaml import YAML


def _dump(data: Any, stream: TextIO) -> None:
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(json.loads(json.dumps(data)), stream)


assert callable(_yaml.parse_yaml_for_update)
assert callable(_yaml._dump)
_yaml.parse_yaml_for_update, _yaml._dump = _yaml.parse_yaml, _dump
