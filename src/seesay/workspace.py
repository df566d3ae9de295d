"""Additional workspaces with the same pipeline, stages and code but other parameters (the demo, tests).

A workspace is a DVC repository without git. It contains copies of dvc.yaml, stages/ and src/, so that DVC detects
changes of the code. It has its own params.yaml and gates.yaml. The stages run with the installed package. The
repository's proofs are copied together with their entries in dvc.lock, so that only a change of the code runs them
again.
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
_PROVING = "prove_"  # the prefix of the stages that produce proofs
CODE = ("stages", "src/seesay")


def override_sections(params: Mapping[str, Any], overrides: Mapping[str, Any], *, where: Path) -> dict[str, Any]:
    """Return `params` with each section in `overrides` replaced as a whole: nothing is merged inside a section.

    Raises `InputError`, naming `where`, for a section that `params` does not have.
    """
    unknown = [section for section in overrides if section not in params]
    if unknown:
        raise InputError(f"{where}: {unknown[0]}: unknown section; params.yaml has: {', '.join(params)}")
    return {section: overrides.get(section, value) for section, value in params.items()}


def prepare_workspace(main: Path, workspace: Path, *, overrides: Path, gates: Path) -> None:
    """Create or update `workspace` from the repository `main`; files with the same content are not rewritten."""
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
    """Copy the proofs and their entries in dvc.lock, unless the workspace's own dvc.lock is at least as new."""
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
    """List the modules and templates, relative to `folder`."""
    return [p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]


def _write_if_new(path: Path, text: str) -> None:
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)


def _as_yaml(value: Mapping[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.StringIO()
    unshared = json.loads(json.dumps(value))  # no shared anchors: an edit in one place must not affect others
    yaml.dump(unshared, buffer)
    return buffer.getvalue()
