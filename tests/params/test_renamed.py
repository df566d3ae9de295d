"""Old keys of params.yaml are refused with one line each, which says what to write instead."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from seesay.core.errors import InputError
from seesay.core.settings import RENAMED, read_section, read_yaml, validate
from seesay.params.captioning import CaptionerTraining
from seesay.params.classification import Classifier
from seesay.params.project import load_params

ROOT = Path(__file__).resolve().parents[2]
LEARNING = "captioners.lstm_flickr8k.learning"
TUNED = {
    "captioner": "lstm_flickr8k", "dataset": "flickr8k", "vocabulary": "flickr8k", "features": "flickr8k_efficientnet",
    "encoder": "weights/mobilenet_v2", "encoder_rate": 0.1, "num_workers": 1,
}  # fmt: skip
# (old key, its value, the key that takes its place and is missing in an old file, the advice)
OLD = [
    ("classifiers.mlp.initial_weights", "none", "start", "write start: weights/<name>, or start: scratch"),
    ("classifiers.mlp.built_on", "none", "start", "write start: classifiers/<name>, or start: scratch"),
    ("autoencoders.conv.built_on", "none", "start", "write start: classifiers/<name>, or start: scratch"),
    (f"{LEARNING}.built_on", "none", "start", "write start: captioners/<name>, or start: scratch"),
    (f"{LEARNING}.dataset", "flickr8k", "datasets", "write datasets: [<name>]"),
    (f"{LEARNING}.also_dataset", "none", "datasets", "write datasets: [<first>, <second>]"),
    (f"{LEARNING}.also_features", "none", "features", "write features: [<of the first>, <of the second>]"),
    ("vocabularies.flickr8k.dataset", "flickr8k", "datasets", "write datasets: [<name>]"),
    ("vocabularies.flickr8k.also_dataset", "none", "datasets", "write datasets: [<first>, <second>]"),
    ("encoders", {}, "weights", "write weights"),
    ("weights.mobilenet_v2.weights", None, "", "write its url and checksum beside architecture, or neither"),
    ("features.flickr8k_resnet9.classifier", "resnet9", "encoder", "write encoder: classifiers/<name>"),
    ("features.flickr8k_resnet9.finetuned", "none", "encoder", "write encoder: finetuned/<name>"),
    ("features.flickr8k_resnet9.network", "classifier", "", "leave it out: the encoder's folder says it"),
    ("finetuned_encoders", {}, "finetuned", "write finetuned"),
    ("finetuned.tuned.classifier", "none", "encoder", "write encoder: classifiers/<name>"),
]


@pytest.fixture
def content() -> dict[str, Any]:
    content = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    content["finetuned"]["tuned"] = {
        **TUNED,
        "training": content["captioners"]["lstm_flickr8k"]["learning"]["training"],
    }
    return content


def refusal(content: dict[str, Any], root: Path) -> str:
    (root / "params.yaml").write_text(json.dumps(content, sort_keys=True))  # JSON is YAML
    with pytest.raises(InputError) as error:
        load_params(root)
    return str(error.value)


def section_of(content: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    *parents, last = key.split(".")
    for part in parents:
        content = content[part]
    return content, last


@pytest.mark.parametrize(("key", "value", "successor", "advice"), OLD)
def test_an_old_key_is_refused_with_the_new_one_in_one_line(
    content: dict[str, Any], tmp_path: Path, key: str, value: Any, successor: str, advice: str
) -> None:
    section, last = section_of(content, key)
    section[last] = value
    section.pop(successor, None)
    assert refusal(content, tmp_path) == f"{tmp_path / 'params.yaml'}: {key}: renamed: {advice}"


def test_each_renamed_key_has_a_case_here() -> None:
    assert len(OLD) == len(RENAMED)
    assert [old[2:] for old in OLD] == [one[1:] for one in RENAMED]


def test_all_old_keys_of_an_entry_are_named_and_the_new_one_is_not_missing(
    content: dict[str, Any], tmp_path: Path
) -> None:
    mlp = content["classifiers"]["mlp"]
    del mlp["start"]
    content["classifiers"]["mlp"] = {**mlp, "initial_weights": "none", "built_on": "none"}
    lines = refusal(content, tmp_path).splitlines()
    assert len(lines) == 2
    assert all(": renamed: write start: " in line for line in lines)


def test_a_stage_that_reads_an_entry_of_its_own_names_the_old_key_too(content: dict[str, Any], tmp_path: Path) -> None:
    content["classifiers"]["mlp"]["built_on"] = "none"
    refusal(content, tmp_path)
    with pytest.raises(InputError, match=r"classifiers\.mlp\.built_on: renamed: write start: classifiers/<name>"):
        read_section(tmp_path, "classifiers.mlp", Classifier)


def test_one_name_where_a_list_is_expected_is_refused_with_the_list(content: dict[str, Any], tmp_path: Path) -> None:
    content["captioners"]["lstm_flickr8k"]["learning"]["features"] = "flickr8k_efficientnet"
    message = refusal(content, tmp_path)
    assert message.endswith(
        f"{LEARNING}.features: got 'flickr8k_efficientnet': expected a list: [flickr8k_efficientnet]"
    )


def test_a_key_that_never_was_is_unknown(content: dict[str, Any], tmp_path: Path) -> None:
    content["features"]["flickr8k_resnet9"]["built_on"] = "none"
    assert "features.flickr8k_resnet9.built_on: unknown key; allowed here: batch_size, " in refusal(content, tmp_path)


def test_null_switches_off_what_a_recipe_has_on(content: dict[str, Any]) -> None:
    recipe = content["captioners"]["lstm_flickr8k"]["learning"]
    training = {**recipe["training"], "patience": None, "max_gradient_norm": None}
    off = validate({**recipe, "label_smoothing": None, "training": training}, CaptionerTraining, where="test")
    assert (off.label_smoothing, off.training.patience, off.training.max_gradient_norm) == (0.0, None, None)
    plain = validate({**content["classifiers"]["plain_cnn"], "augmentation": None}, Classifier, where="test")
    assert not any(value for _, value in plain.augmentation)


def test_null_is_no_value_of_a_key_that_is_required(content: dict[str, Any], tmp_path: Path) -> None:
    content["classifiers"]["mlp"]["training"]["epochs"] = None
    assert "classifiers.mlp.training.epochs: got None: input should be a valid integer" in refusal(content, tmp_path)
