import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seesay.core.errors import InputError
from seesay.images.packed import ImageClass
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, describe_architecture, load_checkpoint, save_checkpoint


@pytest.fixture
def checkpoint():
    generator = torch.Generator().manual_seed(0)
    return Checkpoint(
        kind="classifier",
        dataset="tiny30",
        dataset_digest="d" * 64,
        classes=("n01", "n02"),
        vocabulary_digest="",
        architecture={"name": "mlp", "arguments": {"hidden_sizes": [4, 3], "dropout": 0.5}},
        sizes={"num_classes": 2, "image_size": 8},
        settings={"dataset": "tiny30", "label_smoothing": 0.1},
        normalisation={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
        state_dict={"weight": torch.randn(4, 3, 2, 2, generator=generator), "steps": torch.tensor(7)},
        metrics={"val/loss": 1.25, "best_epoch": 3.0},
    )


def test_what_is_saved_is_loaded(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "model.pt", checkpoint)
    loaded = load_checkpoint(tmp_path / "model.pt", kind="classifier")
    assert replace(loaded, state_dict={}) == replace(checkpoint, state_dict={})
    assert torch.equal(loaded.state_dict["weight"], checkpoint.state_dict["weight"])
    assert loaded.state_dict["steps"].item() == 7


def test_equal_content_gives_equal_bytes_whatever_name_layout_and_identity(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "one.pt", checkpoint)
    weight = checkpoint.state_dict["weight"]
    inside = torch.zeros(9, *weight.shape[1:])
    inside[2:6] = weight  # a view of a larger storage
    for name, same in {
        "two.pt": weight.clone(memory_format=torch.channels_last),
        "three.pt": inside[2:6],
        "four.pt": weight.clone().requires_grad_(),
    }.items():
        equal = replace(
            checkpoint,
            state_dict={"weight": same, "steps": torch.tensor(7)},
            settings={"label_smoothing": 0.1, "dataset": "".join(["tiny", "30"])},
        )
        save_checkpoint(tmp_path / name, equal)
        assert (tmp_path / name).read_bytes() == (tmp_path / "one.pt").read_bytes()


def test_a_checkpoint_knows_its_architecture(checkpoint):
    architecture = Architecture(name="mlp", hidden_sizes=[4, 3], dropout=0.5)
    assert describe_architecture(architecture) == checkpoint.architecture
    assert checkpoint.parsed_architecture == architecture


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pt: no such file"):
        load_checkpoint(tmp_path / "none.pt", kind="classifier")


def test_another_kind_is_refused(checkpoint, tmp_path):
    save_checkpoint(tmp_path / "model.pt", checkpoint)
    with pytest.raises(InputError, match=r"model\.pt: holds a classifier, expected a captioner"):
        load_checkpoint(tmp_path / "model.pt", kind="captioner")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(checkpoint, tmp_path, share):
    path = tmp_path / "model.pt"
    save_checkpoint(path, checkpoint)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"model\.pt: not a readable checkpoint"):
        load_checkpoint(path, kind="classifier")


def test_a_single_changed_weight_is_noticed(checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, checkpoint)
    content = bytearray(path.read_bytes())
    place = content.index(checkpoint.state_dict["weight"].numpy().tobytes()[:16])
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt: damaged: the checksum of .*data/"):
        load_checkpoint(path, kind="classifier")


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="not a seesay checkpoint"):
        load_checkpoint(path, kind="classifier")
    path.write_text("hello")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(path, kind="classifier")


def test_code_in_a_file_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trap"), "w"))

    torch.save(Trap(), tmp_path / "model.pt")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "model.pt", kind="classifier")
    assert not (tmp_path / "trap").exists()


def rewritten(path, checkpoint, *, weights=None, **changes):
    """Save `checkpoint` with some parts of its file changed; None leaves a part out."""
    save_checkpoint(path, checkpoint)
    content = torch.load(path)
    header = {**json.loads(content["header"]), **changes}
    content["header"] = json.dumps({name: value for name, value in header.items() if value is not None})
    if weights is not None:
        content["state_dict"] = weights
    torch.save(content, path)
    return content


@pytest.mark.parametrize("header", [None, "{x", 5, "[" * 100_000])
def test_a_description_that_is_missing_or_no_json_is_one_error(checkpoint, tmp_path, header):
    content = rewritten(tmp_path / "model.pt", checkpoint)
    torch.save({**content, "header": header} if header else {"format": content["format"]}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt: damaged: its header is missing or not valid JSON"):
        load_checkpoint(tmp_path / "model.pt", kind="classifier")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"unknown": 1}, "unknown: unknown key"),
        ({"sizes": None}, "sizes: missing"),
        ({"sizes": {"num_classes": 10**12}}, r"sizes\.num_classes: got 1000000000000: input should be less than"),
        ({"sizes": {"num_classes": -1}}, r"sizes\.num_classes: got -1: input should be greater than"),
        ({"classes": [1]}, r"classes\.0: got 1: input should be a valid string"),
        ({"metrics": {"val/loss": "low"}}, r"metrics\.val/loss: got 'low': input should be a valid number"),
        ({"architecture": {"name": "mlp"}}, r"architecture\.arguments: missing"),
        ({"kind": "zebra"}, "kind: got 'zebra'"),
    ],
)
def test_a_description_with_wrong_keys_or_values_names_them(checkpoint, tmp_path, changes, says):
    rewritten(tmp_path / "model.pt", checkpoint, **changes)
    with pytest.raises(InputError, match=rf"model\.pt: {says}"):
        load_checkpoint(tmp_path / "model.pt", kind="classifier")


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([1], "state_dict: expected a mapping from names to tensors"),
        ({"weight": 1}, "weight: expected a dense tensor"),
        ({"weight": torch.full((2, 2), torch.nan)}, "weight has values that are not finite"),
        ({"weight": torch.tensor([1.0, -torch.inf])}, "weight has values that are not finite"),
        ({"weight": torch.zeros(1).expand(10**6, 10**6)}, "weight: expected a dense tensor"),  # 4 bytes in the file
        ({"weight": torch.zeros(2, 2).to_sparse()}, "weight: expected a dense tensor"),
        ({"weight": torch.zeros(2, device="meta")}, "weight: expected a dense tensor"),
        ({"weight": torch.zeros(2, dtype=torch.complex64)}, "weight: expected a dense tensor of real numbers"),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused(checkpoint, tmp_path, weights, says):
    rewritten(tmp_path / "model.pt", checkpoint, weights=weights)
    with pytest.raises(InputError, match=rf"model\.pt: damaged: {says}"):
        load_checkpoint(tmp_path / "model.pt", kind="classifier")


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, checkpoint)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in archive.namelist():
            bomb.writestr(name, archive.read(name))
    with pytest.raises(
        InputError, match=r"bomb\.pt: not a readable checkpoint: expected an archive without compression"
    ):
        load_checkpoint(tmp_path / "bomb.pt", kind="classifier")


def test_no_message_advises_to_load_a_file_unsafely(tmp_path):
    torch.save({"what": Path("x")}, tmp_path / "model.pt")
    with pytest.raises(InputError, match="holds something other than tensors") as refused:
        load_checkpoint(tmp_path / "model.pt", kind="classifier")
    assert "weights_only" not in str(refused.value)


def test_a_failed_write_leaves_the_earlier_file(checkpoint, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(path, replace(checkpoint, settings={"bad": object()}))
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["model.pt"]


def test_classes_must_be_those_trained_on_in_their_order(checkpoint):
    def classes(*wnids):
        return [ImageClass(wnid, "word") for wnid in wnids]

    checkpoint.require_classes(classes("n01", "n02"))
    with pytest.raises(InputError, match="has 2 classes, but the data have 3"):
        checkpoint.require_classes(classes("n01", "n02", "n03"))
    with pytest.raises(InputError, match="class 0 is n01, but n02 in the data"):
        checkpoint.require_classes(classes("n02", "n01"))


def test_the_vocabulary_must_be_the_one_trained_with(checkpoint):
    captioner = replace(checkpoint, vocabulary_digest="a" * 64)
    captioner.require_vocabulary("a" * 64)
    with pytest.raises(InputError, match="got bbbbbbbbbbbb"):
        captioner.require_vocabulary("b" * 64)
