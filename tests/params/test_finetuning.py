"""Fine-tuned encoders name what DVC cannot look up in their captioner's entry, and must agree with it."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from seesay.core.errors import InputError
from seesay.core.settings import read_yaml
from seesay.params.project import load_params

ROOT = Path(__file__).resolve().parents[2]
CELL = "finetuned.tuned"


@pytest.fixture
def content() -> dict[str, Any]:
    content = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    content["release"]["captioners"] = ["lstm_flickr8k"]
    captioner = content["captioners"]["lstm_flickr8k"]["learning"]
    content["finetuned"]["tuned"] = {
        "captioner": "lstm_flickr8k",
        "dataset": "flickr8k",
        "features": "flickr8k_efficientnet",
        **{name: captioner[name] for name in ("vocabulary", "training")},
        "encoder": "weights/efficientnet_lite2",
        "frozen_blocks": 10,
        "encoder_rate": 0.1,
        "num_workers": 4,
    }
    content["features"]["tuned"] = {**content["features"]["flickr8k_efficientnet"], "encoder": "finetuned/tuned"}
    return content


def load(content: dict[str, Any], root: Path) -> Any:
    (root / "params.yaml").write_text(json.dumps(content, sort_keys=True))  # JSON is YAML
    return load_params(root)


def test_a_captioner_may_learn_from_what_was_finetuned_with_another(content: dict[str, Any], tmp_path: Path) -> None:
    learning = {**content["captioners"]["lstm_flickr8k"]["learning"], "features": ["tuned"]}
    content["captioners"]["second"] = {**content["captioners"]["lstm_flickr8k"], "learning": learning}
    assert load(content, tmp_path).features["tuned"].encoder == "finetuned/tuned"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (f"{CELL}.captioner", "nobody", "got 'nobody': expected an entry of captioners: "),
        (
            f"{CELL}.dataset",
            "coco2017",
            "got 'coco2017': expected flickr8k, as captioners.lstm_flickr8k says",
        ),
        (
            f"{CELL}.vocabulary",
            "coco2017",
            "got 'coco2017': expected flickr8k, as captioners.lstm_flickr8k says",
        ),
        (
            f"{CELL}.features",
            "flickr8k_resnet9",
            "expected flickr8k_efficientnet, as captioners.lstm_flickr8k says",
        ),
        (
            f"{CELL}.encoder",
            "weights/vgg",
            "expected weights/efficientnet_lite2, as features.flickr8k_efficientnet says",
        ),
        (
            f"{CELL}.encoder",
            "classifiers/resnet9",
            "expected weights/efficientnet_lite2, as features.flickr8k_efficientnet",
        ),
        (f"{CELL}.encoder", "finetuned/tuned", "expected weights/<name> or classifiers/<name>"),
        ("features.flickr8k_efficientnet.num_components", 8, "expected features without num_components"),
        ("weights.efficientnet_lite2", {"architecture": "mobilenetv2_100"}, "expected an encoder with weights"),
        (
            "captioners.lstm_flickr8k.learning.features",
            ["tuned"],
            "expected tuned, as captioners.lstm_flickr8k says",
        ),
        ("features.tuned.encoder", "finetuned/other", "expected an entry of finetuned: finetuned/tuned"),
        (f"{CELL}.encoder_rate", 0.0, "greater than 0"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(
    content: dict[str, Any], tmp_path: Path, key: str, value: Any, says: str
) -> None:
    """The message has the key, the value and what was expected."""
    *parents, last = key.split(".")
    section = content
    for part in parents:
        section = section[part]
    section[last] = value
    with pytest.raises(InputError) as error:
        load(content, tmp_path)
    assert says in str(error.value)


def test_no_encoder_is_made_of_itself(content: dict[str, Any], tmp_path: Path) -> None:
    # tuned learns with lstm_flickr8k, which starts from a captioner that has tuned's features.
    attention = content["captioners"]["lstm_flickr8k"]
    content["captioners"]["before"] = {**attention, "learning": {**attention["learning"], "features": ["tuned"]}}
    content["captioners"]["lstm_flickr8k"] = {
        **attention,
        "learning": {**attention["learning"], "start": ["captioners/before"]},
    }
    with pytest.raises(InputError, match=rf"{CELL}.captioner: .* without fine-tuned features; captioners.before has"):
        load(content, tmp_path)
