"""A workspace beside the repository's own: the same flow, stages and code under other parameters (the demo, tests).

A workspace is a DVC repository without git. It holds copies of dvc.yaml, stages/ and src/, so that DVC sees a change of
the code, and params.yaml and gates.yaml of its own; the stages run with the installed package. It takes over the
repository's proofs together with their entries in dvc.lock, so that only a change of the code makes them again.
"""

from __future__ import annotations

import filecmp
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from ruamel.yaml import YAML

from seesay.core.errors import InputError
from seesay.core.files import write_text
from seesay.core.settings import read_yaml

FLOW = ("dvc.yaml", ".dvcignore", "requirements.lock")
PROOFS = "proofs"
_PROVING = "prove_"  # begins the names of the stages that make proofs
CODE = ("stages", "src/seesay")


def override_sections(params: Mapping[str, Any], overrides: Mapping[str, Any], *, where: Path) -> dict[str, Any]:
    """`params` with each section that `overrides` names replaced whole: nothing is merged inside a section."""
    unknown = [section for section in overrides if section not in params]
    if unknown:
        raise InputError(f"{where}: {unknown[0]}: unknown section; params.yaml has: {', '.join(params)}")
    return {section: overrides.get(section, value) for section, value in params.items()}


def prepare_workspace(main: Path, workspace: Path, *, overrides: Path, gates: Path) -> None:
    """Makes or refreshes `workspace` from the repository `main`; files that are the same already are left alone."""
    workspace.mkdir(parents=True, exist_ok=True)
    params = override_sections(read_yaml(main / "params.yaml"), read_yaml(overrides), where=overrides)
    _write_if_new(workspace / "params.yaml", _as_yaml(params))
    _write_if_new(workspace / "gates.yaml", gates.read_text(encoding="utf-8"))
    for name in FLOW:
        _write_if_new(workspace / name, (main / name).read_text(encoding="utf-8"))
    for folder in CODE:
        _mirror(main / folder, workspace / folder)
    _take_over_proofs(main, workspace)
    if not (workspace / ".dvc").is_dir():
        with Repo.init(str(workspace), no_scm=True) as repo, repo.config.edit() as config:
            config["core"].update(analytics=False, check_update=False)
            config["cache"]["type"] = ["reflink", "hardlink", "copy"]


def _take_over_proofs(main: Path, workspace: Path) -> None:
    """Copies the proofs and what dvc.lock says of them, unless the workspace's own dvc.lock is newer."""
    source, target = main / "dvc.lock", workspace / "dvc.lock"
    if not source.is_file() or (target.is_file() and target.stat().st_mtime >= source.stat().st_mtime):
        return
    _mirror(main / PROOFS, workspace / PROOFS)
    stages = (read_yaml(target).get("stages") or {}) if target.is_file() else {}
    proving = {name: entry for name, entry in read_yaml(source)["stages"].items() if name.startswith(_PROVING)}
    write_text(target, _as_yaml({"schema": "2.0", "stages": {**stages, **proving}}))


def _mirror(source: Path, copy: Path) -> None:
    wanted = set(_code_files(source))
    for name in sorted(set(_code_files(copy)) - wanted):
        (copy / name).unlink()
    for name in sorted(wanted):
        target = copy / name
        if not (target.is_file() and filecmp.cmp(source / name, target, shallow=False)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)


def _code_files(folder: Path) -> list[Path]:
    """Modules and templates, relative to `folder`."""
    return [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]


def _write_if_new(path: Path, text: str) -> None:
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)


def _as_yaml(value: Mapping[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.StringIO()
    unshared = json.loads(json.dumps(value))  # what YAML anchors shared: an edit of one place must not change another
    yaml.dump(unshared, buffer)
    return buffer.getvalue()
