"""Refactored code trains no model again; changed numbers train only the models they affect.

The tests run the real DVC and the real stages on generated data.
"""

from __future__ import annotations

import copy
import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAININGS = ("train_classifier", "train_autoencoder", "extract_features", "train_captioner")
PROVING = {"prove_classifiers", "prove_autoencoders", "prove_features", "prove_captioners"}


CHEAP = {
    "check",
    *("fetch_images", "prepare_images", "fetch_captions", "prepare_captions", "build_vocabulary", "fetch_weights"),
    "placeholder",
}


def edit(workspace: Any, name: str, pattern: str, replacement: str) -> None:
    """Replace the match of `pattern` in a file of the workspace's code. There must be a match."""
    path = workspace.root / name
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count, f"{name}: {pattern}"
    path.write_text(text, encoding="utf-8")


def stages_of(ran: set[str]) -> set[str]:
    return {address.split("@")[0] for address in ran}


def trained_in(done: Any) -> set[str]:
    assert done.status == 0, done.output
    return {address for address in done.ran if address.split("@")[0] in TRAININGS}


def add(workspace: Any, section: str, name: str, *, like: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Add an entry to a section of params.yaml: a changed copy of another entry."""
    entry = copy.deepcopy(workspace.params[section][like])
    change(entry)
    workspace.change(section, {**workspace.params[section], name: entry})


LINEAR = '''"""A linear classifier."""

from torch import Tensor, nn


class Linear(nn.Module):
    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * image_size**2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits
'''
SECOND_LSTM = '''"""Another captioner."""

from seesay.captioning.networks.recurrent import LSTMCaptioner


class SecondLSTM(LSTMCaptioner):
    """As the first one."""
'''
FEWER_PROOFS = """
_USED = ("mlp", "plain_cnn", "ensemble", "linear", "pca", "conv_autoencoder", "backbone_autoencoder", "small_cnn",
         "soft_attention", "second_lstm")
PROOFS = {kind: {name: proofs[name] for name in _USED if name in proofs} for kind, proofs in PROOFS.items()}
"""
PROOF = r"\1\n      - proofs/{kind}/{name}.json: {{cache: false, persist: true}}"


def add_classifier(workspace: Any) -> None:
    """Add a classifier: a file, a line of the registry, a case of the proof, its output and an entry of params.yaml."""
    folder = "src/seesay/classification/networks"
    (workspace.root / folder / "linear.py").write_text(LINEAR)
    line = "from seesay.classification.networks.linear import Linear\n"
    edit(workspace, f"{folder}/registry.py", r"^(?=from seesay\.classification\.networks\.plain_cnn )", line)
    edit(workspace, f"{folder}/registry.py", r'(    "mlp": MLP,)', r'\1\n    "linear": Linear,')
    case = r'\1\n    "linear": _classifier({"name": "linear"}, {"name": "linear"}),'
    edit(workspace, "src/seesay/proving/cases.py", r"^(CLASSIFIERS = \{)$", case)
    line = PROOF.format(kind="classifiers", name="linear")
    edit(workspace, "dvc.yaml", r"(      - proofs/classifiers/ensemble\.json: .*)", line)

    def change(entry: dict[str, Any]) -> None:
        entry["architecture"] = {"name": "linear"}
        entry.pop("seeds", None)

    add(workspace, "classifiers", "linear", like="mlp", change=change)


def add_captioner(workspace: Any) -> None:
    """Add a captioner: a file, a line of the registry, a case of the proof, its output and an entry of params.yaml."""
    folder = "src/seesay/captioning/networks"
    (workspace.root / folder / "second_lstm.py").write_text(SECOND_LSTM)
    line = "from seesay.captioning.networks.second_lstm import SecondLSTM\n"
    edit(workspace, f"{folder}/registry.py", r"^(?=from seesay\.captioning\.networks\.transformer )", line)
    edit(workspace, f"{folder}/registry.py", r'(    "lstm": LSTMCaptioner,)', r'\1\n    "second_lstm": SecondLSTM,')
    case = r'\1\n    "second_lstm": _captioner({"name": "second_lstm"}, _POOLED),'
    edit(workspace, "src/seesay/proving/cases.py", r"^(CAPTIONERS = \{)$", case)
    line = PROOF.format(kind="captioners", name="second_lstm")
    edit(workspace, "dvc.yaml", r"(      - proofs/captioners/lstm\.json: .*)", line)

    def change(entry: dict[str, Any]) -> None:
        sizes = {"embedding_size": 8, "hidden_size": 8, "image_enters": "initial_state"}
        entry["learning"]["architecture"] = {"name": "second_lstm", **sizes}

    add(workspace, "captioners", "second_scenes", like="attention_scenes", change=change)


@pytest.fixture(scope="module")
def workspace(finished: Any, python_of_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A workspace that runs its own copy of the code, and the stages that make proofs. All models are trained."""
    root = tmp_path_factory.mktemp("proofs") / "workspace"
    workspace = dataclasses.replace(finished.workspace.copy(root), own_code=True, python=python_of_workspace)
    shutil.copyfile(ROOT / "dvc.yaml", workspace.root / "dvc.yaml")
    first = workspace.repro(*TRAININGS)
    assert first.status == 0, first.output
    assert stages_of(first.ran) <= PROVING
    return workspace


class TestInOrder:
    def test_a_refactoring_and_new_networks_train_only_the_new_ones(self, workspace: Any) -> None:
        """The refactoring: comments and renamed variables. The new networks: a classifier and a captioner.

        Only the proofs that the workspace's entries depend on are made again.
        """
        edit(workspace, "src/seesay/core/paths.py", r"\A", "# A comment.\n")
        edit(workspace, "src/seesay/training/loop.py", r"\A", "# A comment.\n")
        edit(workspace, "src/seesay/training/loop.py", r"\bmeans\b", "averages")
        edit(workspace, "src/seesay/captioning/networks/attention.py", r"\bscores\b", "heights")
        edit(workspace, "src/seesay/proving/cases.py", r"\Z", FEWER_PROOFS)
        planned = workspace.repro("--dry", *TRAININGS)
        assert planned.status == 0, planned.output
        assert PROVING <= stages_of(planned.ran) <= PROVING | CHEAP
        add_classifier(workspace)
        add_captioner(workspace)
        done = workspace.repro(*TRAININGS)
        assert trained_in(done) == {"train_classifier@linear", "train_captioner@second_scenes"}
        assert stages_of(done.ran) >= PROVING

    def test_another_warm_up_trains_what_warms_up_and_nothing_else(self, workspace: Any) -> None:
        """The ensemble changes with its members. Principal components and features have no warm-up."""
        edit(workspace, "src/seesay/training/optim.py", r"\(step \+ 1\) / \(warmup_steps", "(step + 2) / (warmup_steps")
        assert trained_in(workspace.repro(*TRAININGS)) == {
            *(f"train_classifier@{cell}" for cell in ("mlp", "plain_cnn", "ensemble", "linear")),
            *(f"train_autoencoder@{cell}" for cell in ("conv", "masked")),
            *(f"train_captioner@{cell}" for cell in ("attention_scenes", "reward_scenes", "second_scenes")),
        }
