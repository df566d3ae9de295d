"""An encoder of two blocks with batch norms, a captioner of its sixteen features, eight images of noise."""

import numpy as np
import pytest
import torch

from seesay.captioning.data.batches import references_of
from seesay.captioning.features.trainable import blocks_of, trainable_classifier, trainable_network
from seesay.captioning.features.views import PixelRows
from seesay.captioning.training.experiments import finetune_encoder, finetuning_settings
from seesay.captioning.training.reward import ValidationScore
from seesay.classification.networks.published import build_published
from seesay.classification.networks.registry import build_classifier
from seesay.core.errors import InputError
from seesay.params.captioning import FinetunedEncoder
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, describe_architecture

PLAIN_CNN = Architecture(name="plain_cnn", widths=[8, 16], dropout=0.0)


@pytest.fixture
def classifier():
    network = build_classifier(PLAIN_CNN, num_classes=2, image_size=32, seed=0, key="x")
    return Checkpoint(
        kind="classifier",
        dataset="drawings",
        dataset_digest="d" * 64,
        classes=("n0", "n1"),
        vocabulary_digest="",
        architecture=describe_architecture(PLAIN_CNN),
        sizes={"num_classes": 2, "image_size": 32},
        settings={},
        normalisation={"mean": [0.5] * 3, "std": [0.25] * 3},
        state_dict=network.state_dict(),
        metrics={},
    )


@pytest.fixture
def pixels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    images[8:] = images[:8]  # the val images look like those of train
    return PixelRows(tmp_path / "pixels", 16, 32, torch.from_numpy(images).split(5))


def cell(eight, *, epochs=2, frozen_blocks=0, **training):
    learning = eight.settings(epochs=epochs).training.model_dump()
    return FinetunedEncoder(
        captioner="lstm",
        dataset="eight",
        vocabulary="eight",
        features="eight_seen",
        encoder="classifiers/drawings",
        frozen_blocks=frozen_blocks,
        encoder_rate=0.5,
        num_workers=0,
        training={**learning, **training},
    )


@pytest.fixture
def finetune(eight, classifier, pixels):
    captioner = eight.train(eight.settings(epochs=1))

    def run(settings, *, log=eight.log, resume=None):
        trainable = trainable_classifier(classifier, "drawings", grid_size=None)
        best = finetune_encoder(
            trainable,
            captioner,
            eight.captions,
            pixels,
            eight.vocabulary,
            settings,
            key="finetuned.cell",
            score=ValidationScore(references_of([eight.captions], "val"), eight.vocabulary),
            seed=0,
            compute=eight.compute,
            log=log,
            resume=resume,
        )
        return trainable, best

    return run


def changed(before, network):
    return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}


def test_blocks_learn_unless_frozen_and_batch_norm_statistics_never_do(eight, classifier, finetune):
    first = {name: tensor.clone() for name, tensor in classifier.state_dict.items()}
    weights = {name for name, tensor in first.items() if tensor.is_floating_point() and "running" not in name}
    trainable, _ = finetune(cell(eight))
    assert changed(first, trainable.network) == {name for name in weights if name.startswith("body.")}
    trainable, _ = finetune(cell(eight, frozen_blocks=2))
    assert changed(first, trainable.network) == {name for name in weights if name.startswith(("body.3.", "body.4."))}


def test_finetuning_the_encoder_lowers_the_captions_val_loss(eight, finetune):
    finetune(cell(eight, epochs=12))
    losses = [row["val/loss"] for _, row in eight.logged[-12:]]
    assert losses[-1] < 0.8 * losses[0]


def test_a_killed_finetuning_ends_in_the_same_bytes(eight, finetune, tmp_path):
    settings = cell(eight, epochs=3, accumulate_batches=2, moving_average={"decay": 0.9, "every_steps": 1})
    eight.logged.clear()
    whole, best = finetune(settings)
    history = eight.logged.copy()
    eight.fail_in_epoch = 2
    with pytest.raises(KeyboardInterrupt):
        finetune(settings, resume=tmp_path / "state")
    eight.fail_in_epoch = None
    eight.logged.clear()
    resumed, again = finetune(settings, resume=tmp_path / "state")
    assert eight.logged == history
    assert again.metrics == best.metrics
    for name, trainable in (("whole", whole), ("resumed", resumed)):
        trainable.save(tmp_path / name)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


def test_an_encoder_with_all_blocks_frozen_is_refused(eight, finetune):
    with pytest.raises(InputError, match=r"finetuned\.cell\.frozen_blocks: got 4: expected fewer than 4"):
        finetune(cell(eight, frozen_blocks=4))


def test_the_captioner_is_taught_human_captions_by_its_own_settings(eight):
    learned = eight.settings(
        label_smoothing=0.1, start=["captioners/parent"], best_by="cider_d", self_critical={"num_samples": 2}
    )
    captioner = eight.train(eight.settings(epochs=1))
    trained = Checkpoint(**{**vars(captioner), "settings": learned.model_dump(mode="json")})
    taught = finetuning_settings(trained, cell(eight, epochs=7))
    assert (taught.label_smoothing, taught.best_by, taught.training.epochs) == (0.1, "cider_d", 7)
    assert (taught.self_critical, taught.start) == (None, ("captioners/lstm",))


@pytest.mark.parametrize(("name", "num_blocks"), [("mobilenetv2_100", 18), ("resnet18", 9), ("test_vit", 7)])
def test_blocks_are_counted_from_the_input_on(tmp_path, name, num_blocks):
    torch.save(build_published(name).state_dict(), tmp_path / "weights.pth")
    trainable = trainable_network(name, tmp_path / "weights.pth", grid_size=None)
    blocks = blocks_of(trainable.encoder.network)
    assert len(blocks) == num_blocks
    assert any(parameter.dim() == 4 and parameter.shape[1] == 3 for parameter in blocks[0])  # colours
    counted = sum(parameter.numel() for block in blocks for parameter in block)
    assert counted == sum(parameter.numel() for parameter in trainable.encoder.parameters())
