"""Workspaces in which the real DVC runs the real stages on a few generated images."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from seesay.core.forkserver import LIBRARIES, ForkServer
from seesay.core.settings import read_yaml
from seesay.workspace import prepare_workspace

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PYTHON = Path(sys.executable).parent
KEPT = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "SEESAY_", "DVC_", "MIRROR"))}
ENVIRONMENT = {**KEPT, "OMP_NUM_THREADS": "1"}

# The fork server of the tests also runs DVC. The modules without a package lie beside this file.
IMPORTED = (*LIBRARIES, "dvc.cli", "dvc.commands.repro", "dvc.repo", "faster_dvc", "faster_outputs")
_IMPORT = re.compile(r"^from (seesay[.\w]*) import", re.MULTILINE)
OF_STAGES = sorted({name for path in (ROOT / "stages").glob("*.py") for name in _IMPORT.findall(path.read_text())})
"""The modules of seesay that stages import."""


@dataclass(frozen=True)
class Repro:
    """The result of one `dvc repro`: exit status, cells it ran, cells it restored from the run cache, and output."""

    status: int
    ran: set[str]
    restored: set[str]
    output: str

    @staticmethod
    def of(status: int, output: str) -> Repro:
        ran = re.findall(r"^Running stage '([^']+)'", output, re.MULTILINE)
        restored = re.findall(r"^Stage '([^']+)' is cached - skipping run", output, re.MULTILINE)
        return Repro(status, set(ran), set(restored), output)


@dataclass(frozen=True)
class Workspace:
    root: Path
    tracking: bool
    python: Path
    """The folder of the `python` that runs DVC and the stages."""
    own_code: bool = False
    """If true, the stages run the workspace's copy of the code instead of the installed package."""

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.python), str(PYTHON), ENVIRONMENT["PATH"]])
        own = {"PYTHONPATH": str(self.root / "src")} if self.own_code else {}
        return {**ENVIRONMENT, "PATH": path, **own} | ({} if self.tracking else {"SEESAY_TRACKING": "off"})

    @property
    def params(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / "params.yaml").read_text())
        return content

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python / "python"), "-m", *map(str, arguments)],
            cwd=self.root, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def repro(self, *arguments: str) -> Repro:
        done = self.command("dvc", "repro", *arguments)
        return Repro.of(done.returncode, done.stdout)

    def copy(self, root: Path) -> Workspace:
        """Return a copy, in which DVC finds nothing to do that is done here. `root` must not exist."""
        shutil.copytree(self.root, root, symlinks=True)
        return replace(self, root=root)

    def change(self, key: str, value: Any) -> None:
        """Set the dotted `key` of params.yaml to `value`."""
        content = self.params
        *parents, last = key.split(".")
        section = content
        for part in parents:
            section = section[part]
        assert last in section, key
        assert section[last] != value, f"{key} is {value} already"
        section[last] = value
        (self.root / "params.yaml").write_text(json.dumps(content))

    def files(self, pattern: str) -> dict[str, bytes]:
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in sorted(self.root.glob(pattern))}


def _prepare(root: Path) -> None:
    """Create a workspace without the stages that make proofs, which are stale while code is being edited.

    Its files are JSON, which is YAML and faster to read.
    """
    prepare_workspace(ROOT, root, overrides=HERE / "tiny.yaml", gates=HERE / "tiny_gates.yaml")
    pipeline, params = read_yaml(root / "dvc.yaml"), read_yaml(root / "params.yaml")
    pipeline["stages"] = {name: one for name, one in pipeline["stages"].items() if not name.startswith("prove_")}
    (root / "dvc.yaml").write_text(json.dumps(pipeline))
    (root / "params.yaml").write_text(json.dumps(params))


@pytest.fixture(scope="session")
def forking_python() -> Iterator[Path]:
    """The folder of a `python` with everything already imported; see `seesay.core.forkserver`."""
    server = ForkServer({**ENVIRONMENT, "PYTHONPATH": str(HERE)}, (*IMPORTED, "faster_seesay", *OF_STAGES))
    yield server.folder
    server.end()


@pytest.fixture(scope="module")
def python_of_workspace() -> Iterator[Path]:
    """As `forking_python`, with nothing of seesay imported: for workspaces with code of their own."""
    server = ForkServer({**ENVIRONMENT, "PYTHONPATH": str(HERE)}, IMPORTED)
    yield server.folder
    server.end()


@dataclass(frozen=True)
class Finished:
    """A workspace, without tracking, in which the whole pipeline has run, and that first run."""

    workspace: Workspace
    first: Repro


@pytest.fixture(scope="session")
def finished(made_once: Callable[..., Path], forking_python: Path) -> Finished:
    """The finished workspace. Tests copy it before they change it."""

    def workspace_in(folder: Path) -> Workspace:
        return Workspace(folder / "workspace", tracking=False, python=forking_python)

    def fill(folder: Path) -> None:
        _prepare(folder / "workspace")
        done = workspace_in(folder).repro()
        (folder / "first.json").write_text(json.dumps([done.status, done.output]))

    folder = made_once("finished", fill)
    workspace, first = workspace_in(folder), Repro.of(*json.loads((folder / "first.json").read_text()))
    assert first.status == 0, first.output
    return Finished(workspace, first)


@pytest.fixture(scope="module")
def new_workspace(tmp_path_factory: pytest.TempPathFactory, forking_python: Path) -> Callable[..., Workspace]:
    """A function that makes workspaces."""

    def make(*, tracking: bool) -> Workspace:
        root = tmp_path_factory.mktemp("workspace")
        _prepare(root)
        return Workspace(root, tracking, forking_python)

    return make
