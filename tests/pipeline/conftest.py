"""Workspaces in which the real dvc runs the real stages on a few generated images."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from seesay.workspace import prepare_workspace

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Repro:
    """What one `dvc repro` did: the cells it ran, those it restored from the run cache, its status and its output."""

    status: int
    ran: set[str]
    restored: set[str]
    output: str


@dataclass(frozen=True)
class Workspace:
    root: Path
    tracking: bool

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "SEESAY_", "DVC_"))
        }
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
        environment["OMP_NUM_THREADS"] = "1"
        environment.pop("MIRROR", None)
        if not self.tracking:
            environment["SEESAY_TRACKING"] = "off"
        return subprocess.run(
            [sys.executable, "-m", *map(str, arguments)],
            cwd=self.root, env=environment, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def repro(self, *arguments: str) -> Repro:
        done = self.command("dvc", "repro", *arguments)
        ran = set(re.findall(r"^Running stage '([^']+)'", done.stdout, re.MULTILINE))
        restored = set(re.findall(r"^Stage '([^']+)' is cached - skipping run", done.stdout, re.MULTILINE))
        return Repro(done.returncode, ran, restored, done.stdout)

    def change(self, key: str, value: Any) -> None:
        """Puts `value` under the dotted `key` of params.yaml."""
        yaml = YAML(typ="safe", pure=True)
        yaml.sort_base_mapping_type_on_output = False  # the order of cells is that of the results' rows
        path = self.root / "params.yaml"
        content = yaml.load(path)
        *parents, last = key.split(".")
        section = content
        for part in parents:
            section = section[part]
        assert last in section, key
        assert section[last] != value, f"{key} is {value} already"
        section[last] = value
        with path.open("w") as file:
            yaml.dump(content, file)

    def files(self, pattern: str) -> dict[str, bytes]:
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in sorted(self.root.glob(pattern))}


def make_workspace(root: Path, *, tracking: bool) -> Workspace:
    prepare_workspace(ROOT, root, overrides=HERE / "tiny.yaml", gates=HERE / "tiny_gates.yaml")
    return Workspace(root, tracking)


@pytest.fixture(scope="module")
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Workspace]:
    def make(*, tracking: bool) -> Workspace:
        return make_workspace(tmp_path_factory.mktemp("workspace"), tracking=tracking)

    return make
