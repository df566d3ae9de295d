"""Additional workspaces with the same pipeline, stages and code but other parameters (the demo, tests).

A workspace is a DVC repository with a git repository of its own. It contains copies of dvc.yaml, stages/ and src/, so
that DVC detects changes of the code. It has its own params.yaml and gates.yaml. The stages run with the installed
package. The repository's proofs are copied together with their entries in dvc.lock, so that only a change of the code
runs them again.

The last commit has the state before the last run that changed something, or the first results. `dvc metrics diff` and
`dvc params diff` then show what that run changed.
"""

from __future__ import annotations

import filecmp
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from seesay.core.errors import InputError, did_you_mean
from seesay.core.files import write_text
from seesay.core.settings import read_yaml

FLOW = ("dvc.yaml", ".dvcignore", ".gitignore", ".dvc/plots/history.json", "requirements.lock")
PROOFS = "proofs"
_PROVING = "prove_"  # the prefix of the stages that produce proofs
CODE = ("stages", "src/seesay")
_DVC_CONFIG = """[core]
    analytics = false
    check_update = false
    no_scm = {no_scm}
[cache]
    type = "reflink,hardlink,copy"
"""
_RESULTS = "reports/results.json"


def override_sections(params: Mapping[str, Any], overrides: Mapping[str, Any], *, where: Path) -> dict[str, Any]:
    """Return `params` with each section in `overrides` replaced as a whole: nothing is merged inside a section.

    Raises `InputError`, naming `where`, for a section that `params` does not have.
    """
    unknown = [section for section in overrides if section not in params]
    if unknown:
        known = f"params.yaml has: {', '.join(params)}{did_you_mean(unknown[0], params)}"
        raise InputError(f"{where}: {unknown[0]}: unknown section; {known}")
    return {section: overrides.get(section, value) for section, value in params.items()}


def prepare_workspace(main: Path, workspace: Path, *, overrides: Path, gates: Path) -> None:
    """Create or update `workspace` from the repository `main`; files with the same content are not rewritten.

    What the last run has left is committed first. Without git on this machine, the workspace has no commits.
    """
    (workspace / ".dvc").mkdir(parents=True, exist_ok=True)
    has_git = shutil.which("git") is not None
    if has_git and (workspace / ".git").exists():
        _commit(workspace, "The state before the next run")
    edit = f"# Written by seesay: edit {os.path.relpath(overrides, main)} and params.yaml of the repository instead.\n"
    params = override_sections(read_yaml(main / "params.yaml"), read_yaml(overrides), where=overrides)
    _write_if_new(workspace / "params.yaml", edit + _as_yaml(params))
    _write_if_new(workspace / "gates.yaml", gates.read_text(encoding="utf-8"))
    for name in FLOW:
        _write_if_new(workspace / name, (main / name).read_text(encoding="utf-8"))
    for folder in CODE:
        _mirror(main / folder, workspace / folder)
    _take_over_proofs(main, workspace)
    _write_if_new(workspace / ".dvc/config", _DVC_CONFIG.format(no_scm=str(not has_git).lower()))
    _write_if_new(workspace / ".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
    if has_git and not (workspace / ".git").exists():
        _git(workspace, "init", "--quiet")
        _commit(workspace, "The pipeline and its parameters")


def commit_first_results(workspace: Path) -> None:
    """Commit the results of the first run, so that later ones can be compared with them."""
    if (workspace / ".git").exists() and _git(workspace, "cat-file", "-e", f"HEAD:{_RESULTS}", check=False).returncode:
        _commit(workspace, "The first results")


def name_sources(text: str, *, main: Path, overrides: Path, gates: Path) -> str:
    """Return a message with the files that people edit in place of a workspace's copies, as paths below `main`."""
    overridden = read_yaml(overrides) if "params.yaml: " in text else {}

    def params_file(found: re.Match[str]) -> str:
        section = found[1]
        return f"{os.path.relpath(overrides, main) if section in overridden else 'params.yaml'}: {section}"

    text = re.sub(r"(?<![^\s])\S*\bparams\.yaml: (\w+)", params_file, text)
    return re.sub(r"(?<![^\s])\S*\bgates\.yaml: ", f"{os.path.relpath(gates, main)}: ", text)


def _commit(workspace: Path, message: str) -> None:
    _git(workspace, "add", "--all")
    if _git(workspace, "diff", "--cached", "--quiet", check=False).returncode:
        _git(workspace, "commit", "--quiet", "--no-verify", "--message", message)


def _git(workspace: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run git, whatever this machine's settings for commits are; raise `InputError` with its words if it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    settings = ("user.name=seesay", "user.email=seesay@localhost", "commit.gpgsign=false", "core.autocrlf=false")
    command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise InputError(f"{workspace}: git {arguments[0]} failed: {' '.join(done.stderr.split())}")
    return done


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
    files = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "__pycache__"]
    return [p.relative_to(folder) for p in files if p.suffix != ".toml"]  # ruff's settings


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
