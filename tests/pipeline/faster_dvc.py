"""Importing this module makes DVC read YAML once, write it as JSON, which is YAML too, and search less for parameters.

DVC parses params.yaml and dvc.lock several times for each stage, and preserves comments in dvc.lock, which has none.
It reads git's index for each output, and all of params.yaml for each parameter. It lists each folder of code several
times for each stage that depends on it. That takes longer than most stages of the tests.
"""

from __future__ import annotations

import copy
import functools
import json
import operator
from pathlib import Path
from typing import Any, TextIO

from dulwich.repo import Repo
from dvc.dependency import param
from dvc.output import Output
from dvc.utils.serialize import _yaml

_parse_once = functools.lru_cache(maxsize=32)(_yaml.parse_yaml)


def _parse(text: str, path: str, typ: str = "safe") -> Any:
    return json.loads(text) if text.startswith("{") else copy.deepcopy(_parse_once(text, path))


def _dump(data: Any, stream: TextIO) -> None:
    stream.write(json.dumps(data))


def _look_up(content: Any, path: str, separator: str) -> Any:
    try:
        return functools.reduce(operator.getitem, path.split(separator), content)
    except TypeError:
        raise KeyError(path) from None


_build = Output._build
_built: dict[tuple[str, bool], Any] = {}


def _build_once(output: Output, *arguments: Any, **options: Any) -> Any:
    """Code stays as it is while a repro runs. A repro of the tests is a process of its own."""
    if not output.IS_DEPENDENCY or "/src/seesay/" not in output.fs_path:
        return _build(output, *arguments, **options)
    key = output.fs_path, options.get("dry_run", False)
    if key not in _built:
        _built[key] = _build(output, *arguments, **options)
    return _built[key]


_open_index = Repo.open_index


@functools.lru_cache(maxsize=1)
def _open_unchanged(path: str, changed_ns: int) -> Any:
    return _open_index(Repo(path))


def _open_once(repo: Repo) -> Any:
    return _open_unchanged(repo.path, Path(repo.index_path()).stat().st_mtime_ns)


assert callable(_yaml.parse_yaml_for_update)
assert callable(_yaml._dump)
assert callable(param.dpath.get)
_yaml.parse_yaml, _yaml.parse_yaml_for_update, _yaml._dump = _parse, _parse, _dump
param.dpath.get = _look_up
Repo.open_index = _open_once  # type: ignore[method-assign]
Output._build = _build_once  # type: ignore[method-assign]
