"""A change of params reruns the cells it affects and no others.

The tests run the real DVC and the real stages on generated data.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from seesay.core.settings import read_yaml

CELLS = {
    "fetch_images": ["scenes"],
    "prepare_images": ["scenes10"],
    "placeholder": [],
    "train_classifier": ["mlp", "plain_cnn", "ensemble"],
    "evaluate_classifier": ["mlp", "plain_cnn", "ensemble"],
    "explain_classifier": ["mlp", "plain_cnn", "ensemble"],
    "compare_classifiers": [],
    "train_autoencoder": ["pca", "conv", "masked"],
    "evaluate_autoencoder": ["pca", "conv", "masked"],
    "explain_autoencoder": ["pca", "conv", "masked"],
    "fetch_captions": ["scenes"],
    "prepare_captions": ["scenes"],
    "build_vocabulary": ["scenes"],
    "fetch_weights": ["small_cnn"],
    "extract_features": ["scenes_small_cnn", "scenes_views"],
    "train_captioner": ["attention_scenes", "reward_scenes"],
    "caption_images": ["attention_scenes", "reward_scenes"],
    "score_captions": ["attention_scenes", "reward_scenes"],
    "explain_captioner": ["attention_scenes", "reward_scenes"],
    "compare_captioners": [],
    "report": [],
    "gate": [],
    "register": [],
}


def cells(*stages: str) -> set[str]:
    return {f"{stage}@{cell}" for stage in stages for cell in CELLS[stage]} | {s for s in stages if not CELLS[s]}


CHECK = {"check"}
"""The stage that runs after every change of params.yaml, and whose output never changes."""

LAST = cells("report", "gate", "register")
CLASSIFIERS = ("train_classifier", "evaluate_classifier", "explain_classifier")
AUTOENCODERS = ("train_autoencoder", "evaluate_autoencoder", "explain_autoencoder")
IMAGE_MODELS = cells(*CLASSIFIERS, *AUTOENCODERS, "compare_classifiers")
# Built on the backbone of the plain network.
MASKED = {f"{stage}@masked" for stage in AUTOENCODERS}
# The ensemble is built on the multi-layer perceptron's two seeds.
PERCEPTRONS = {f"{stage}@{cell}" for stage in CLASSIFIERS for cell in ("mlp", "ensemble")}
# One captioner starts from the other's weights.
CAPTIONERS = ("train_captioner", "caption_images", "score_captions", "explain_captioner")
CAPTIONED = cells(*CAPTIONERS, "compare_captioners")


Change = tuple[str, Any, set[str]]
"""The dotted key of a parameter, its new value and the stages that must run again."""

# Each change is made on top of the earlier ones. Together they change every section of params.yaml.
SINGLE_CHANGES: list[Change] = [
    ("tracking.experiment_prefix", "other-", set()),
    ("report.note", "Another note.", cells("report")),
    ("release.prefix", "other-", cells("register")),
    ("comparison.throughput_repeats", 2, cells("compare_classifiers")),
    ("encoder_maps.num_images", 3, cells("explain_autoencoder", "report")),
]
# A change for images and one for captions have only the last stages in common, so one repro shows both.
MODEL_CHANGES: list[tuple[Change, Change]] = [
    (("classifiers.mlp.training.optimizer.learning_rate", 2e-3,
      PERCEPTRONS | cells("compare_classifiers") | LAST),
     ("captioners.attention_scenes.decoding.beam_size", 3,
      {f"{stage}@attention_scenes" for stage in CAPTIONERS[1:]} | cells("compare_captioners") | LAST)),
    (("classifiers.plain_cnn.label_smoothing", 0.2,
      {f"{stage}@plain_cnn" for stage in CLASSIFIERS} | MASKED | cells("compare_classifiers") | LAST),
     ("captioners.attention_scenes.learning.training.epochs", 1, CAPTIONED | LAST)),
    (("autoencoders.conv.training.epochs", 1, {f"{stage}@conv" for stage in AUTOENCODERS} | LAST),
     ("vocabularies.scenes.min_count", 6, cells("build_vocabulary") | CAPTIONED | LAST)),
    (("autoencoders.masked.masking.share", 0.5, MASKED | LAST),
     ("features.scenes_views.views.count", 1,
      {"extract_features@scenes_views"} | {f"{stage}@reward_scenes" for stage in CAPTIONERS}
      | cells("compare_captioners") | LAST)),
]  # fmt: skip
DATA_CHANGES: list[tuple[Change, Change]] = [
    (("image_datasets.scenes10.split_seed", 1, cells("prepare_images") | IMAGE_MODELS | LAST),
     ("caption_datasets.scenes.split_seed", 1,
      cells("prepare_captions", "build_vocabulary", "extract_features") | CAPTIONED | LAST)),
    (("image_sources.scenes.seed", 1, cells("fetch_images", "prepare_images") | IMAGE_MODELS | LAST),
     ("caption_sources.scenes.seed", 1,
      cells("fetch_captions", "prepare_captions", "build_vocabulary", "extract_features") | CAPTIONED | LAST)),
]  # fmt: skip
# The multi-layer perceptron has its own seeds, so training again gives the same networks and the same ensemble.
SAME_WITH_ANY_SEED = {f"{stage}_classifier@{cell}" for stage in ("evaluate", "explain") for cell in ("mlp", "ensemble")}

SHARED_CHANGES: list[Change] = [
    ("evaluation.panel_images", 3,
     cells("evaluate_classifier", "explain_classifier", "evaluate_autoencoder", "score_captions", "explain_captioner",
           "compare_captioners", "report")),
    ("seed", 1, (IMAGE_MODELS | CAPTIONED | LAST) - SAME_WITH_ANY_SEED),
]  # fmt: skip


@pytest.fixture(scope="class")
def workspace(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return finished.workspace.copy(tmp_path_factory.mktemp("reruns") / "workspace")


def names(changes: Sequence[tuple[Change, ...]]) -> list[str]:
    return [" ".join(key for key, _, _ in change) for change in changes]


def assert_runs_exactly(workspace: Any, *changes: Change) -> None:
    """Make independent changes, and assert that one repro runs the stages that they affect and no others."""
    for key, value, _ in changes:
        workspace.change(key, value)
    done = workspace.repro()
    assert done.status == 0, done.output
    assert done.ran - CHECK == set().union(*(expected for _, _, expected in changes))


def test_changes_in_one_repro_have_only_the_last_stages_in_common() -> None:
    for (_, _, images), (_, _, captions) in [*MODEL_CHANGES, *DATA_CHANGES]:
        assert images & captions == LAST


class TestModels:
    def test_the_first_repro_runs_every_stage(self, finished: Any) -> None:
        assert finished.first.ran == cells(*CELLS) | CHECK, finished.first.output

    def test_nothing_changed_runs_nothing(self, workspace: Any) -> None:
        again = workspace.repro()
        assert (again.status, again.ran, again.restored) == (0, set(), set())

    @pytest.mark.parametrize("change", SINGLE_CHANGES, ids=names([(change,) for change in SINGLE_CHANGES]))
    def test_the_change_reruns_exactly_what_it_affects(self, workspace: Any, change: Change) -> None:
        assert_runs_exactly(workspace, change)

    @pytest.mark.parametrize("changes", MODEL_CHANGES, ids=names(MODEL_CHANGES))
    def test_two_changes_rerun_exactly_what_they_affect(self, workspace: Any, changes: tuple[Change, Change]) -> None:
        assert_runs_exactly(workspace, *changes)

    def test_a_restored_value_restores_its_results_from_the_run_cache(self, workspace: Any) -> None:
        reward = {f"{stage}@reward_scenes" for stage in CAPTIONERS} | cells("compare_captioners") | LAST
        assert_runs_exactly(
            workspace,
            ("classifiers.mlp.training.epochs", 1, PERCEPTRONS | cells("compare_classifiers") | LAST),
            ("captioners.reward_scenes.learning.training.epochs", 1, reward),
        )
        workspace.change("classifiers.mlp.training.epochs", 2)
        back = workspace.repro()
        assert PERCEPTRONS | {"compare_classifiers"} <= back.restored
        assert not back.ran & (IMAGE_MODELS | CAPTIONED)
        assert back.ran - CHECK <= LAST

    def test_adding_a_cell_runs_only_that_cell(self, workspace: Any) -> None:
        """And, in the same repro, other features rerun the captioners that see through them."""
        classifiers = copy.deepcopy(read_yaml(workspace.root / "params.yaml")["classifiers"])
        classifiers["wide_mlp"] = {**classifiers["mlp"], "label_smoothing": 0.2}
        of_the_new_cell = {f"{stage}@wide_mlp" for stage in CLASSIFIERS}
        assert_runs_exactly(
            workspace,
            ("classifiers", classifiers, of_the_new_cell | cells("compare_classifiers") | LAST),
            ("features.scenes_small_cnn.image_size", 32,
             {"extract_features@scenes_small_cnn"} | CAPTIONED | LAST),
        )  # fmt: skip


class TestData:
    @pytest.mark.parametrize("changes", DATA_CHANGES, ids=names(DATA_CHANGES))
    def test_two_changes_rerun_exactly_what_they_affect(self, workspace: Any, changes: tuple[Change, Change]) -> None:
        assert_runs_exactly(workspace, *changes)

    @pytest.mark.parametrize("change", SHARED_CHANGES, ids=names([(change,) for change in SHARED_CHANGES]))
    def test_the_change_reruns_exactly_what_it_affects(self, workspace: Any, change: Change) -> None:
        assert_runs_exactly(workspace, change)

    def test_other_weights_rerun_what_sees_through_them(self, workspace: Any) -> None:
        """The encoder has no weights that could change, so features refer to an entry of another name instead."""
        params = read_yaml(workspace.root / "params.yaml")
        workspace.change("weights", {"other": params["weights"]["small_cnn"]})
        for cell in CELLS["extract_features"]:
            workspace.change(f"features.{cell}.encoder", "weights/other")
        done = workspace.repro()
        assert done.status == 0, done.output
        # The features' index names the encoder, so the stages that learn from the features run again. Their metrics are
        # the same, but the table of captioners names the encoder, so the gate reads another file of results.
        expected = {"fetch_weights@other"} | cells("extract_features", *CAPTIONERS) | LAST
        # The comparison lists weights that replace official ones, so it depends on the folder of all weights.
        expected |= cells("compare_classifiers")
        assert done.ran - CHECK == expected

    def test_threads_rerun_what_computes_and_nothing_that_only_reads(self, workspace: Any) -> None:
        workspace.change("runtime.compile", True)
        done = workspace.repro()
        assert done.status == 0, done.output
        computing = IMAGE_MODELS | cells("extract_features", "train_captioner", "caption_images", "explain_captioner")
        assert done.ran - CHECK == computing  # same results on a CPU, so score_captions and later stages do not run


def test_every_section_of_params_is_changed_by_a_test() -> None:
    from seesay.params.project import Params

    pairs = [change for pair in [*MODEL_CHANGES, *DATA_CHANGES] for change in pair]
    changed = {key.split(".")[0] for key, _, _ in [*SINGLE_CHANGES, *SHARED_CHANGES, *pairs]}
    assert changed | {"weights", "runtime", "finetuned"} == set(Params.model_fields)  # `finetuned` has no cells
