"""Refactored code trains nothing, changed numbers train what they touch: real dvc, real stages, generated data."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

TRAININGS = ("train_classifier", "train_autoencoder", "extract_features", "train_captioner")
PROVING = {"prove_classifiers", "prove_autoencoders", "prove_features", "prove_captioners"}


def edit(workspace: Any, name: str, pattern: str, replacement: str) -> None:
    """Replaces what `pattern` matches in a file of the workspace's own code, where it must match."""
    path = workspace.root / name
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count, f"{name}: {pattern}"
    path.write_text(text, encoding="utf-8")


def stages_of(ran: set[str]) -> set[str]:
    return {address.split("@")[0] for address in ran}


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[..., Any]) -> Any:
    """A workspace that runs its own copy of the code, with everything up to the trained models in place."""
    workspace = new_workspace(tracking=False, own_code=True)
    first = workspace.repro(*TRAININGS)
    assert first.status == 0, first.output
    assert not stages_of(first.ran) & PROVING, "the repository's proofs are stale: run `dvc repro` there"
    return workspace


class TestInOrder:
    def test_a_new_captioner_and_a_refactoring_train_only_the_new_one(self, workspace: Any) -> None:
        """One file, one line of the registry, one entry of params.yaml and one proof; and no other cell is stale."""
        edit(workspace, "src/seesay/training/loop.py", r"\A", "# A comment.\n")
        edit(workspace, "src/seesay/core/paths.py", r"\A", "# A comment.\n")
        edit(workspace, "src/seesay/training/loop.py", r"\bmeans\b", "averages")
        edit(workspace, "src/seesay/captioning/networks/attention.py", r"\bscores\b", "heights")
        add_captioner(workspace)
        add_classifier(workspace)
        planned = workspace.repro("--dry", *TRAININGS)
        assert stages_of(planned.ran) >= PROVING, planned.output
        assert planned.ran & {f"{stage}@" for stage in TRAININGS} == set()
        done = workspace.repro(*TRAININGS)
        assert done.status == 0, done.output
        trained = {address for address in done.ran if address.split("@")[0] in TRAININGS}
        assert trained == {"train_captioner@wide_scenes", "train_classifier@linear"}

    def test_another_warm_up_trains_what_warms_up_and_nothing_else(self, workspace: Any) -> None:
        edit(workspace, "src/seesay/training/optim.py", r"\(step \+ 1\) / ", "(step + 2) / ")
        done = workspace.repro(*TRAININGS)
        assert done.status == 0, done.output
        trained = {address for address in done.ran if address.split("@")[0] in TRAININGS}
        assert trained == set()
