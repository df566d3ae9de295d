"""Stage instances of the current pipeline, and a DVC that reads its files once and writes them whole.

dvc.yaml defines the instances. dvc.lock holds the command, parameters and file digests of each one's last run.
`python -m seesay.tracking.dvc_stages` takes the arguments of `dvc`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesay.core.files import write_text
from seesay.core.paths import Paths, cell_name
from seesay.core.settings import PARAMS_FILE, read_yaml


@dataclass(frozen=True)
class Instance:
    """A stage, or one cell of a stage. `lock` is its entry in dvc.lock, or None if it has never run."""

    stage: str
    cell: str | None
    lock: Mapping[str, Any] | None

    @property
    def address(self) -> str:
        return cell_name(self.stage, self.cell)


def read_instances(root: Path) -> list[Instance]:
    """Return all instances that write run records, in the order of dvc.yaml.

    dvc.lock alone does not suffice, because it keeps the entries of removed cells.
    """
    paths = Paths(root)
    stages = read_yaml(paths.pipeline).get("stages") or {}
    locked = (read_yaml(paths.lock).get("stages") or {}) if paths.lock.is_file() else {}
    params = read_yaml(root / PARAMS_FILE) if (root / PARAMS_FILE).is_file() else {}
    return [
        Instance(stage, cell, locked.get(cell_name(stage, cell)))
        for stage, definition in stages.items()
        if _records_its_run(definition)
        for cell in _cells(stage, definition, params, locked)
    ]


def _records_its_run(definition: Mapping[str, Any]) -> bool:
    """Return true if a stage writes a run record. All do except `prove_*`, whose numbers are not results."""
    outs = definition.get("do", definition).get("outs") or []
    paths = [next(iter(out)) if isinstance(out, Mapping) else str(out) for out in outs]
    return not paths or any(path.startswith("runs/") for path in paths)


def _cells(stage: str, definition: Any, params: Mapping[str, Any], locked: Mapping[str, Any]) -> Iterator[str | None]:
    entries = definition.get("foreach")
    if entries is None and "matrix" not in definition:
        yield None
        return
    if isinstance(entries, str):
        entries = _look_up(entries, params)
    if isinstance(entries, Mapping | list):
        yield from map(str, entries)
        return
    for address in locked:  # a matrix, or a foreach over something other than params.yaml
        if address.startswith(f"{stage}@"):
            yield address.split("@", 1)[1]


def _look_up(reference: str, params: Mapping[str, Any]) -> Any:
    """Return the value of `${a.b}` in params.yaml, or None if there is none."""
    value: Any = params
    for part in reference.strip().removeprefix("${").removesuffix("}").strip().split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


FALLBACK = "seesay-"
"""Prefix of our own hash, for a stage without a run cache in DVC or a DVC version that computes the key differently."""


@functools.cache
def prepare_dvc() -> None:
    """Let DVC, in this process, parse the same text once only, and write dvc.lock and DVC's rwlock whole.

    Call it before DVC is imported otherwise. DVC parses params.yaml again for each stage, so that a pipeline of n
    experiments takes n squared steps. dvc.lock, which has no comments, it parses for each stage that has run as if
    comments had to be kept; this takes seconds where there are a hundred stages. It writes dvc.lock in place, which
    takes a second there, and a reader would see a part. rwlock, the list of files that processes use, it writes in
    place too, and refuses to run where an interruption has cut that off. With another version of DVC, whose functions
    are elsewhere, nothing changes.
    """
    _parse_once()
    _write_whole()
    _list_users_whole()


def _parse_once() -> None:
    from dvc.utils import serialize, strictyaml
    from dvc.utils.serialize import _yaml

    modules = (_yaml, serialize, strictyaml)
    parse_yaml = getattr(_yaml, "parse_yaml", None)
    if parse_yaml is None or any(getattr(module, "parse_yaml", None) is not parse_yaml for module in modules):
        return

    @functools.lru_cache(maxsize=8)
    def parse_once(text: str) -> bytes:
        return pickle.dumps(parse_yaml(text, ""))

    def parse(text: str, path: str, typ: str = "safe") -> Any:
        if typ == "safe" or Path(path).name == "dvc.lock":
            with suppress(serialize.ParseError):
                return pickle.loads(parse_once(text))  # a copy: DVC changes what it has read
        return parse_yaml(text, path, typ)  # or the error, with the path

    for module in modules:
        vars(module)["parse_yaml"] = parse


def _write_whole() -> None:
    from dvc.utils.serialize import _common, _yaml

    if "_dump_data" not in vars(_common) or vars(_yaml).get("_dump_data") is not _common._dump_data:
        return
    dump_data = _common._dump_data

    def dump(path: str | os.PathLike[str], data: Any, dumper: Any, fs: Any = None, **options: Any) -> None:
        if Path(path).name != "dvc.lock":
            dump_data(path, data, dumper, fs, **options)
            return
        text = io.StringIO()
        dumper(data, text, **options)
        write_text(Path(os.path.realpath(path)), text.getvalue())

    for module in (_common, _yaml):
        vars(module)["_dump_data"] = dump


def _list_users_whole() -> None:
    from dvc import rwlock

    edit = getattr(rwlock, "_edit_rwlock", None)
    if edit is not None:
        vars(rwlock)["_edit_rwlock"] = lambda folder, fs, *options: edit(folder, _WholeFiles(fs), *options)


class _WholeFiles:
    """DVC's local files, of which JSON is replaced by a rename, and empty where plain DVC was cut off writing it."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    @contextmanager
    def open(self, path: str, mode: str = "r", **options: Any) -> Iterator[io.StringIO]:
        if mode == "w":
            written = io.StringIO()
            yield written
            write_text(Path(path), written.getvalue())
            return
        with self._fs.open(path, mode, **options) as file:
            text = file.read()
        try:
            json.loads(text)
        except ValueError:
            sys.stderr.write(f"{os.path.relpath(path)} was cut off while DVC wrote it, and is made anew\n")
            text = "{}"
        yield io.StringIO(text)


def main() -> int:
    prepare_dvc()
    from dvc.cli import main as dvc

    return int(dvc(sys.argv[1:]))


def compute_stage_hash(root: Path, address: str) -> str:
    """Return DVC's own key of a stage instance for its current inputs.

    This takes half a second, most of it for importing DVC. `_get_stage_hash` is private, so a test compares it with the
    key DVC writes. It fails with another DVC version, or for a stage with `persist` outputs, which has no run cache.
    The result is then a hash of the command, parameters and input digests, with the prefix `FALLBACK`.
    """
    prepare_dvc()
    from dvc.repo import Repo
    from dvc.stage import cache
    from dvc.stage.serialize import to_single_stage_lockfile

    with Repo(str(root)) as repo:
        stage = repo.stage.load_one(name=address)
        stage.save_deps()
        try:
            if cache._can_hash(stage):
                return str(cache._get_stage_hash(stage))
        except (AttributeError, TypeError, AssertionError):
            pass
        return fallback_hash(to_single_stage_lockfile(stage))


def hash_of_lock_entry(entry: Mapping[str, Any]) -> str:
    """Return the hash of a stage's entry in dvc.lock: its command, parameters, input digests and output paths."""
    facts = {key: value for key, value in entry.items() if key in ("cmd", "deps", "params")}
    if "deps" in facts:
        facts["deps"] = [{k: v for k, v in dep.items() if k not in ("size", "nfiles")} for dep in facts["deps"]]
    if "outs" in entry:
        facts["outs"] = [out["path"] for out in entry["outs"]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fallback_hash(entry: Mapping[str, Any]) -> str:
    return FALLBACK + hash_of_lock_entry(entry)


if __name__ == "__main__":
    sys.exit(main())
