"""params.yaml is refused where it is wrong, with the key's path, the value and what is allowed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from seesay.core import settings
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import read_section, read_yaml, validate
from seesay.params.classification import Classifier
from seesay.params.project import Params, load_params
from seesay.report.rules import read_gates
from seesay.workspace import override_sections

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def content() -> dict[str, Any]:
    return copy.deepcopy(read_yaml(ROOT / "params.yaml"))


def refusal(content: dict[str, Any], tmp_path: Path) -> str:
    (tmp_path / "params.yaml").write_text(json.dumps(content, sort_keys=True))  # JSON is YAML, and parsed sooner so
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError) as error:
        patch.setattr(settings, "_load", json.loads)
        load_params(tmp_path)
    return str(error.value)


def put(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        content = content[part]
    content[last] = value


def test_the_committed_params_are_sound() -> None:
    assert "resnet9" in load_params(ROOT).classifiers


@pytest.mark.parametrize(
    ("name", "source"), [("demo", "scenes"), ("tiny200", "tiny_imagenet"), ("tiny200_gpu", "tiny_imagenet")]
)
def test_the_params_of_other_workspaces_are_sound(tmp_path: Path, name: str, source: str) -> None:
    path = ROOT / f"params/{name}.yaml"
    merged = override_sections(read_yaml(ROOT / "params.yaml"), read_yaml(path), where=path)
    assert set(validate(merged, Params, where=name).image_sources) == {source}
    (tmp_path / "params.yaml").write_text(json.dumps(merged, sort_keys=True))  # JSON is YAML
    load_params(tmp_path)  # what sections must agree on
    assert read_gates(ROOT / f"params/{name}_gates.yaml").rules


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "classifiers.mlp.training.lerning_rate",
            0.1,
            "unknown key; allowed here: accumulate_batches, batch_size, epochs",
        ),
        ("classifiers.mlp.training.epochs", "ten", "got 'ten': input should be a valid integer"),
        ("classifiers.mlp.training.epochs", 0, "got 0: input should be greater than or equal to 1"),
        ("classifiers.mlp.training.batch_size", 1.5, "got 1.5: input should be a valid integer"),
        ("classifiers.mlp.augmentation.flip", "yes", "got 'yes': input should be a valid boolean"),
        ("classifiers.mlp.augmentation.flip", "alternate", "input should be 'alternating'; did you mean alternating?"),
        ("classifiers.mlp.training.optimizer.norm_bias_rate", 0, "got 0: input should be greater than 0"),
        ("classifiers.mlp.training.optimizer.lookahead", {"pull": 2.0, "every_steps": 5}, "less than or equal to 1"),
        ("classifiers.mlp.training.optimizer.name", "mono", "got 'mono': expected one of 'sgd', 'adamw', 'muon'"),
        ("classifiers.mlp.training.optimizer.name", "adam", "got 'adam': expected one of 'sgd', 'adamw'"),
        ("classifiers.mlp.training.optimizer.momentum", 0.9, "unknown key; allowed here: beta1, beta2"),
        (
            "classifiers.mlp.dataset",
            "tiny31",
            "got 'tiny31': expected an entry of image_datasets: tiny10_100, tiny20, tiny30",
        ),
        ("image_datasets.tiny30.source", "imagenet", "expected an entry of image_sources: tiny_imagenet"),
        ("image_sources.tiny_imagenet.kind", "cifar", "got 'cifar': expected one of 'tiny_imagenet', 'scenes'"),
        (
            "image_datasets.tiny30",
            {
                "source": "tiny_imagenet",
                "image_size": 64,
                "limits": {"max_undecodable": 0, "max_left_out_per_class": 0},
            },
            "expected a source of kind image_folder without subset; its kind is tiny_imagenet",
        ),
        ("image_datasets.tiny30.num_val_per_class", None, "num_val_per_class: missing: expected with subset"),
        ("image_datasets.tiny30.splits", {}, "expected val or test, or no splits where the source has both"),
        ("classifiers.mlp.class_weights", "even", "got 'even': input should be 'balanced'"),
        ("captioners.lstm_coco2017.learning.vocabulary", "nope", "expected an entry of vocabularies"),
        ("captioners.lstm_coco2017.learning.features", ["flickr8k_efficientnet"], "features of dataset coco2017"),
        ("captioners.lstm_coco2017.learning.features", [], "should have at least 1 item"),
        ("captioners.lstm_coco2017.learning.features", ["a", "b", "c"], "should have at most 2 items"),
        ("caption_datasets.coco2017.val_fraction", None, "has no val"),
        ("caption_datasets.coco2017.val_fraction", 0.9, "less than 0.5"),
        ("features.flickr8k_efficientnet.resize_size", 128, "smaller than the crop"),
        ("runtime.device", "gpu", "got 'gpu': string should match"),
        ("runtime.precision", "float16", "got 'float16': input should be 'auto', 'float32' or 'bfloat16'"),
        ("classifiers.mlp.start", "classifiers/resnet9", "expected scratch for architecture mlp without distillation"),
        ("classifiers.mlp.start", "weights/mobilenet_v2", "expected scratch for architecture mlp without distillation"),
        (
            "classifiers.mlp.start",
            "none",
            "expected scratch, weights/<name> or classifiers/<name>: none is now scratch",
        ),
        ("classifiers.mlp.start", "resnet9", "got 'resnet9': expected scratch, weights/<name> or classifiers/<name>"),
        ("classifiers.mlp.start", "scratch/x", "got 'scratch/x': expected scratch, weights/<name> or "),
        ("classifiers.mlp.start", "captioners/lstm_flickr8k", "expected scratch, weights/<name> or classifiers/<name>"),
        (
            "classifiers.resnet9.distillation",
            {"weight": 0.5, "temperature": 2.0},
            "expected classifiers/<name> with distillation",
        ),
        ("classifiers.mlp.layer_decay", 0.5, "layer_decay: got 0.5: expected none for architecture mlp"),
        ("classifiers.mlp.seeds", [1, 1], "seeds: got [1, 1]: expected each once"),
        ("classifiers.mlp.seeds", [], "should have at least 1 item"),
        ("classifiers.mlp.training", None, "training: expected with every architecture but ensemble"),
        ("classifiers.mlp.progressive_resizing", {"start_size": 33, "until": 0.5}, "multiple of 8"),
        ("classifiers.efficientnet_probe.start", "scratch", "expected weights/<name> for architecture pretrained"),
        (
            "classifiers.efficientnet_probe.start",
            "classifiers/mlp",
            "expected weights/<name> for architecture pretrained",
        ),
        ("classifiers.efficientnet_probe.start", "weights/vgg", "an entry of weights: weights/efficientnet_lite0, "),
        (
            "classifiers.efficientnet_probe.architecture.network",
            "resnet18",
            "tf_efficientnet_lite0, as weights.efficientnet_lite0 says",
        ),
        ("classifiers.efficientnet_probe.distillation", {"weight": 0.5, "temperature": 2.0}, "starts from weights"),
        ("classifiers.resnet9_ensemble.start", "scratch", "expected classifiers/<name> for architecture ensemble"),
        ("classifiers.resnet9_ensemble.start", "classifiers/vgg", "an entry of classifiers: classifiers/alexnet, "),
        ("classifiers.resnet9_ensemble.start", "classifiers/alexnet", "of tiny30; this one is of tiny10_100"),
        ("classifiers.resnet9_ensemble.start", "classifiers/resnet9_ensemble", "an acyclic chain of classifiers"),
        ("classifiers.resnet9_ensemble.augmentation", {"flip": True}, "expected none for architecture ensemble"),
        ("classifiers.resnet9_ensemble.seeds", [0, 1], "an ensemble is not trained"),
        ("release.classifiers", ["vgg"], "got 'vgg': expected an entry of classifiers: alexnet, "),
        ("seed", -1, "got -1: input should be greater than or equal to 0"),
        ("seed", True, "got True: input should be a valid integer"),
        ("sed", 0, "unknown key; allowed here: "),
        ("autoencoders.finetuned.start", "classifiers/resnet7", "expected an entry of classifiers: classifiers/"),
        ("autoencoders.finetuned.start", "weights/mobilenet_v2", "expected scratch or classifiers/<name>"),
        (
            "autoencoders.finetuned.start",
            "classifiers/plain_cnn",
            "expected classifiers.plain_cnn.architecture: {'name': 'plain_cnn', ",
        ),
        (
            "autoencoders.finetuned.start",
            "classifiers/alexnet_mini",
            "got 'classifiers/alexnet_mini': expected a classifier of tiny30; this one is of tiny20",
        ),
        ("autoencoders.conv.start", "classifiers/resnet9", "expected scratch for architecture conv_autoencoder"),
        ("autoencoders.pca.augmentation", {"flip": True}, "expected none for architecture pca"),
        ("caption_datasets.coco2017.split_seed", None, "val_fraction: got 0.1: expected split_seed beside it"),
        ("caption_sources.coco2017.num_images", 9, "got 9: expected num_images_seed and num_workers beside it"),
        ("weights.mobilenet_v2.url", None, "url and checksum: expected both or neither"),
        (
            "weights.mobilenet_v2.url",
            "https://me:hunter2@host/weights.pth",
            "weights.mobilenet_v2.url: got 'https://host/weights.pth' with a user name: expected none",
        ),
        ("caption_sources.flickr8k.text.url", "s3://key:hunter2@bucket/text.zip", "~/.netrc"),
        ("autoencoders.frozen.backbone_rate", 0.1, "expected none where no backbone is fine-tuned"),
        ("autoencoders.masked.masking.share", 0.0, "masking.share: got 0.0: input should be greater than 0"),
        ("autoencoders.masked.masking.share", 1.0, "masking.share: got 1.0: input should be less than 1"),
        ("autoencoders.masked.masking.patch_size", 0, "masking.patch_size: got 0: input should be greater than or"),
        ("autoencoders.residual.loss.log_l2", 0.0, "l1, l2, log_l2 and ssim: all are off"),
        ("autoencoders.residual.loss", None, "loss: expected with every architecture but pca, which is not trained"),
        ("autoencoders.pca.masking", {"patch_size": 8, "share": 0.25, "evaluation_seed": 0}, "cannot learn to fill"),
        ("classifiers.ResNet", {}, "classifiers.ResNet: got 'ResNet': string should match pattern"),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_is_allowed(
    content: dict[str, Any], tmp_path: Path, key: str, value: Any, says: str
) -> None:
    put(content, key, value)
    message = refusal(content, tmp_path)
    assert key.rsplit(".", 1)[0] in message
    assert says in message
    assert str(tmp_path / "params.yaml") in message


def test_sam_sees_one_batch_a_step(content: dict[str, Any], tmp_path: Path) -> None:
    content["classifiers"]["mlp"]["training"].update(sharpness_radius=0.05, accumulate_batches=2)
    message = refusal(content, tmp_path)
    assert "classifiers.mlp.training: accumulate_batches: got 2: expected 1 with sharpness_radius" in message


def test_greedy_decoding_has_no_beam(content: dict[str, Any], tmp_path: Path) -> None:
    put(content, "captioners.lstm_coco2017.decoding.method", "greedy")
    message = refusal(content, tmp_path)
    assert "captioners.lstm_coco2017.decoding.beam_size: unknown key; allowed here: batch_size" in message
    assert "captioners.lstm_coco2017.decoding.length_penalty: unknown key" in message


DIGEST = "sha256:" + "0" * 64
LOCAL = {"path": "file", "checksum": DIGEST}
LEARNING = "captioners.lstm_coco2017.learning"
TWO = {
    f"{LEARNING}.datasets": ["coco2017", "flickr8k"],
    f"{LEARNING}.features": ["coco2017_efficientnet", "flickr8k_efficientnet"],
}


def own_source(*splits: str) -> dict[str, Any]:
    return {"kind": "coco_files", **{split: {"annotations": LOCAL, "images": {"path": "folder"}} for split in splits}}


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        (
            {f"{LEARNING}.datasets": ["nope"]},
            f"{LEARNING}.datasets",
            "got 'nope': expected an entry of caption_datasets",
        ),
        ({f"{LEARNING}.features": ["nope"]}, f"{LEARNING}.features", "got 'nope': expected an entry of features: "),
        (TWO | {f"{LEARNING}.datasets": ["coco2017", "nope"]}, f"{LEARNING}.datasets", "an entry of caption_datasets"),
        (TWO | {f"{LEARNING}.datasets": ["coco2017"] * 2}, LEARNING, "coco2017, coco2017: expected two different ones"),
        (
            {f"{LEARNING}.datasets": ["coco2017", "flickr8k"]},
            LEARNING,
            "features: got coco2017_efficientnet: expected one for each of datasets, coco2017, flickr8k",
        ),
        (
            TWO | {f"{LEARNING}.features": ["coco2017_efficientnet"] * 2},
            f"{LEARNING}.features",
            "features of dataset flickr8k; these are of coco2017",
        ),
        (
            TWO | {f"{LEARNING}.features": ["coco2017_efficientnet", "flickr8k_resnet9"]},
            f"{LEARNING}.features",
            "features like coco2017_efficientnet: encoder weights/efficientnet_lite2; these have classifiers/resnet9",
        ),
        (
            TWO | {f"features.{name}_efficientnet.num_components": 8 for name in ("coco2017", "flickr8k")},
            f"{LEARNING}.features",
            "each dataset has principal components of its own",
        ),
        (
            {f"{LEARNING}.start": ["captioners/nope"]},
            f"{LEARNING}.start",
            "got 'captioners/nope': expected an entry of captioners: captioners/",
        ),
        ({f"{LEARNING}.start": ["classifiers/mlp"]}, f"{LEARNING}.start.0", "expected scratch or captioners/<name>"),
        (
            {f"{LEARNING}.start": ["captioners/lstm_coco2017"]},
            f"{LEARNING}.start",
            "an acyclic chain of captioners; got lstm_coco2017 from lstm_coco2017",
        ),
        (
            {
                f"{LEARNING}.start": ["captioners/lstm_flickr8k"],
                "captioners.lstm_flickr8k.learning.start": ["captioners/lstm_coco2017"],
            },
            f"{LEARNING}.start",
            "got lstm_coco2017 from lstm_flickr8k from lstm_coco2017",
        ),
        (
            {f"{LEARNING}.start": ["captioners/lstm_flickr8k"]},
            f"{LEARNING}.vocabulary",
            "got 'coco2017': expected flickr8k, as captioners.lstm_flickr8k, which it starts from",
        ),
        (
            {f"{LEARNING}.start": ["captioners/lstm_flickr8k"], f"{LEARNING}.vocabulary": "flickr8k"},
            f"{LEARNING}.architecture",
            "as captioners.lstm_flickr8k, which it starts from",
        ),
        (
            {"features.flickr8k_resnet9.encoder": "classifiers/vgg"},
            "features.flickr8k_resnet9.encoder",
            "an entry of classifiers: classifiers/alexnet",
        ),
        (
            {"features.flickr8k_resnet9.encoder": "resnet9"},
            "features.flickr8k_resnet9.encoder",
            "got 'resnet9': expected weights/<name>, classifiers/<name> or finetuned/<name>",
        ),
        (
            {"features.flickr8k_resnet9.encoder": "finetuned/tuned"},
            "features.flickr8k_resnet9.encoder",
            "got 'finetuned/tuned': expected an entry of finetuned: (none)",
        ),
        (
            {"features.flickr8k_efficientnet.encoder": "weights/vgg"},
            "features.flickr8k_efficientnet.encoder",
            "got 'weights/vgg': expected an entry of weights: weights/efficientnet_lite0, ",
        ),
        (
            {"features.flickr8k_resnet9.dataset": "nope"},
            "features.flickr8k_resnet9.dataset",
            "entry of caption_datasets",
        ),
        (
            {"vocabularies.flickr8k.datasets": ["flickr8k", "nope"]},
            "vocabularies.flickr8k.datasets",
            "an entry of caption_datasets",
        ),
        (
            {"vocabularies.flickr8k.datasets": ["flickr8k", "flickr8k"]},
            "vocabularies.flickr8k",
            "datasets: got flickr8k, flickr8k: expected two different ones",
        ),
        (
            {"caption_datasets.flickr8k.val_fraction": 0.1, "caption_datasets.flickr8k.split_seed": 0},
            "caption_datasets.flickr8k.val_fraction",
            "a val split of its own",
        ),
        (
            {"caption_datasets.coco2017.karpathy_split": LOCAL},
            "caption_datasets.coco2017",
            "val_fraction: got 0.1: expected none with karpathy_split",
        ),
        (
            {"caption_datasets.flickr8k.karpathy_split": {"path": "x", "checksum": "md5:0"}},
            "caption_datasets.flickr8k.karpathy_split.checksum",
            "got 'md5:0': string should match",
        ),
        (
            {"caption_sources.coco2017": own_source("train", "val", "test")},
            "caption_datasets.coco2017.val_fraction",
            "got '0.1': expected none: this source has a val split of its own",
        ),
        (
            {"caption_sources.coco2017": own_source("train")},
            "caption_datasets.coco2017.karpathy_split",
            "a split file, or a test split in caption_sources.coco2017",
        ),
        ({"caption_sources.coco2017": own_source("test")}, "caption_sources.coco2017.train", "missing"),
        ({"caption_datasets.other": "flickr8k"}, "caption_datasets", "the name of an entry of caption_sources"),
    ],
)
def test_names_that_lead_nowhere_or_do_not_fit_get_one_clear_message(
    content: dict[str, Any], tmp_path: Path, changes: dict[str, Any], key: str, says: str
) -> None:
    for changed, value in changes.items():
        put(content, changed, content["caption_datasets"][value] if changed == "caption_datasets.other" else value)
    message = refusal(content, tmp_path)
    assert message.startswith(f"{tmp_path / 'params.yaml'}: {key}: ")
    assert says in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("section", ["weights", "caption_sources", "caption_datasets", "captioners"])
def test_an_entry_has_not_the_name_of_an_empty_folder(content: dict[str, Any], tmp_path: Path, section: str) -> None:
    content[section]["empty"] = next(iter(content[section].values()))
    message = refusal(content, tmp_path)
    assert f"{section}.empty: got 'empty': expected another name: the stage placeholder makes" in message


def test_empty_folders_lie_where_their_names_are_reserved() -> None:
    folders = {path.as_posix() for path in Paths(Path()).empty_folders()}
    assert "models/scratch" in folders
    assert {path.rsplit("/", 1)[1] for path in folders} == {"scratch", "empty"}
    sections = {"models/autoencoders", "models/weights", "data/raw/captions", "data/captions"}
    sections |= {"data/features", "data/vocabularies", "models/finetuned"}
    of_captioners = {"models/captioners", "data/predictions/captioners", "data/attention", "metrics/score_captions"}
    assert {path.rsplit("/", 1)[0] for path in folders} - {"models"} == sections | of_captioners


def test_a_captioner_may_learn_from_two_datasets_and_start_from_another(
    content: dict[str, Any], tmp_path: Path
) -> None:
    for key, value in TWO.items():
        put(content, key, value)
    put(content, f"{LEARNING}.vocabulary", "coco2017_flickr8k")
    captioners = content["captioners"]
    captioners["second"] = copy.deepcopy(captioners["lstm_coco2017"])
    captioners["second"]["learning"]["start"] = ["captioners/lstm_coco2017"]
    (tmp_path / "params.yaml").write_text(json.dumps(content, sort_keys=True))  # JSON is YAML
    learning = load_params(tmp_path).captioners["second"].learning
    assert (learning.parents, learning.datasets) == (("lstm_coco2017",), ("coco2017", "flickr8k"))


def test_a_source_of_ones_own_goes_with_a_val_fraction_or_a_karpathy_split(
    content: dict[str, Any], tmp_path: Path
) -> None:
    content["caption_sources"]["coco2017"] = own_source("train", "test")
    content["caption_sources"]["flickr8k"] = own_source("train")
    content["caption_datasets"]["flickr8k"]["karpathy_split"] = LOCAL
    (tmp_path / "params.yaml").write_text(json.dumps(content, sort_keys=True))  # JSON is YAML
    params = load_params(tmp_path)
    assert params.caption_datasets["flickr8k"].karpathy_split is not None
    assert params.caption_datasets["coco2017"].karpathy_split is None


@pytest.mark.parametrize(
    ("cell", "key", "value", "says"),
    [
        ("scratch", "architecture.train_backbone", False, "random weights have to learn"),
    ],
)
def test_settings_of_an_autoencoder_that_contradict_each_other_are_named(
    content: dict[str, Any], tmp_path: Path, cell: str, key: str, value: Any, says: str
) -> None:
    put(content, f"autoencoders.{cell}.{key}", value)
    message = refusal(content, tmp_path)
    assert f"autoencoders.{cell}: {key}: got " in message
    assert says in message


def test_ssim_of_hidden_patches_needs_patches_that_have_one(content: dict[str, Any], tmp_path: Path) -> None:
    put(content, "autoencoders.masked.loss.ssim", 0.5)
    put(content, "autoencoders.masked.masking.patch_size", 4)
    assert "loss.ssim: got 0.5: expected 0 with a masking.patch_size of 4" in refusal(content, tmp_path)


def test_completion_without_masking_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    put(content, "autoencoders.finetuned.architecture.completion", {"width": 64, "blocks": 4})
    assert "architecture.completion: expected none without masking" in refusal(content, tmp_path)


def test_a_class_alone_is_no_loss_of_an_autoencoder(content: dict[str, Any], tmp_path: Path) -> None:
    put(content, "autoencoders.finetuned.loss", {"cross_entropy": 0.1})
    assert "l1, l2, log_l2 and ssim: all are off" in refusal(content, tmp_path)


def test_a_missing_key_is_named(content: dict[str, Any], tmp_path: Path) -> None:
    del content["classifiers"]["mlp"]["training"]["epochs"]
    assert "classifiers.mlp.training.epochs: missing" in refusal(content, tmp_path)


def test_every_wrong_key_is_named_not_only_the_first(content: dict[str, Any], tmp_path: Path) -> None:
    put(content, "seed", "zero")
    put(content, "classifiers.mlp.label_smoothing", 2.0)
    message = refusal(content, tmp_path)
    assert "seed: got 'zero'" in message
    assert "classifiers.mlp.label_smoothing: got 2.0" in message


def test_params_are_frozen() -> None:
    params = load_params(ROOT)
    with pytest.raises(ValueError, match="frozen"):
        params.classifiers["mlp"].training.epochs = 3  # type: ignore[misc]


def test_numbers_with_exponents_are_numbers_as_dvc_reads_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("rate: 1e-3\n")
    assert read_section(tmp_path, "rate", float) == 0.001


def test_what_was_read_may_be_changed_and_is_read_again_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: {b: [1]}\n")
    read_yaml(path)["a"]["b"].append(2)
    assert read_yaml(path) == {"a": {"b": [1]}}
    path.write_text("a: 2\n")
    assert read_yaml(path) == {"a": 2}


def test_a_stage_reads_its_own_section_though_another_is_wrong(content: dict[str, Any], tmp_path: Path) -> None:
    put(content, "classifiers.mlp.training.epochs", "ten")
    refusal(content, tmp_path)
    assert read_section(tmp_path, "classifiers.plain_cnn", Classifier).dataset == "tiny30"


def test_a_section_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("classifiers: {mlp: {}, cnn: {}}\n")
    with pytest.raises(InputError, match=r"no key 'classifiers.rnn': expected one of mlp, cnn"):
        read_section(tmp_path, "classifiers.rnn", Classifier)


@pytest.mark.parametrize(
    ("text", "says"),
    [("a: [1", "not valid YAML"), ("- 1\n", "expected a mapping of sections"), ("a: 1\na: 2\n", "not valid YAML")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=says):
        load_params(tmp_path)


def test_overrides_replace_whole_sections_and_refuse_unknown_ones(tmp_path: Path) -> None:
    assert override_sections({"a": {"x": 1}, "b": 2}, {"a": {"y": 3}}, where=tmp_path) == {"a": {"y": 3}, "b": 2}
    with pytest.raises(InputError, match=r"c: unknown section; params\.yaml has: a, b"):
        override_sections({"a": 1, "b": 2}, {"c": 3}, where=tmp_path)
