import math

import numpy as np
import pytest
import torch

from seesay.data.caption_batches import CaptionBatch, encode_captions
from seesay.data.caption_records import CaptionRecord, collect_records
from seesay.data.features import Features, FeaturesIndex
from seesay.data.sources import SourceNote
from seesay.data.vocabulary import build_vocabulary
from seesay.models.captioners import build_captioner, restore_captioner
from seesay.models.greedy import greedy_search
from seesay.params.captioning import CaptionerTraining
from seesay.params.reading import validate
from seesay.training.captioning import fit_captioner, mean_token_loss, token_losses

CAPTIONS = (
    "a red ball lies on the grass",
    "two dogs run",
    "a child in a blue coat jumps over a puddle",
    "a boat",
    "the grass is high and the sky is grey",
    "two children play with a ball",
    "a dog jumps over the boat",
    "the sky",
)


@pytest.fixture
def captions():
    """Eight images with a caption each, in train and again, as other images, in val."""
    records = [
        CaptionRecord(100 * number + image, f"{image}.png", "images.zip", split, (caption,), 8, 8)
        for number, split in enumerate(("train", "val"))
        for image, caption in enumerate(CAPTIONS)
    ]
    return collect_records("eight", records, SourceNote("eight", ()))


@pytest.fixture
def vocabulary(captions):
    return build_vocabulary(captions, min_count=1)


@pytest.fixture
def features(captions):
    pooled = np.random.default_rng(0).normal(3, 2, (8, 16)).astype(np.float16)
    pooled = np.concatenate([pooled, pooled])
    index = FeaturesIndex("e", "small_cnn", SourceNote("e", ()), {}, "eight", captions.digest, pooled.shape, ())
    return Features(pooled, index)


def settings_of(*, epochs=60, dropout=0.0, label_smoothing=0.0, batch_size=4, max_caption_length=20):
    return validate(
        {
            "dataset": "eight",
            "vocabulary": "eight",
            "features": "eight",
            "architecture": {"name": "lstm", "embedding_size": 24, "hidden_size": 48, "dropout": dropout},
            "label_smoothing": label_smoothing,
            "max_caption_length": max_caption_length,
            "training": {
                "epochs": epochs,
                "batch_size": batch_size,
                "optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.99},
                "schedule": {"decay": "constant", "warmup_fraction": 0.0},
                "moving_average": None,
                "max_gradient_norm": 5.0,
                "patience": None,
            },
        },
        CaptionerTraining,
        where="test",
    )


def new_captioner(settings, vocabulary):
    return build_captioner(
        settings.architecture, vocabulary_size=len(vocabulary), feature_size=16, seed=0, key="architecture"
    )


def train(captions, vocabulary, features, settings, compute, *, log=lambda metrics, *, step: None):
    captioner = new_captioner(settings, vocabulary)
    return fit_captioner(
        captioner, captions, vocabulary, features, settings, seed=0, compute=compute, log=log, resume=None
    )


def test_it_learns_eight_captions_by_heart(captions, vocabulary, features, compute):
    checkpoint = train(captions, vocabulary, features, settings_of(), compute)
    captioner = restore_captioner(checkpoint)
    said = greedy_search(captioner, torch.from_numpy(features.pooled[:8]).float(), max_length=20)
    assert [" ".join(vocabulary.decode(caption.token_ids)) for caption in said] == list(CAPTIONS)
    assert checkpoint.metrics["val/loss"] < 0.1
    assert checkpoint.metrics["val/perplexity"] == pytest.approx(math.exp(checkpoint.metrics["val/loss"]))


def test_the_first_loss_is_that_of_knowing_nothing(captions, vocabulary, features, compute):
    captioner = new_captioner(settings_of(), vocabulary)
    encoded = encode_captions(captions, "val", vocabulary, max_caption_length=20)
    loss = mean_token_loss(captioner.eval(), encoded, features, batch_size=8, compute=compute)
    assert loss == pytest.approx(math.log(len(vocabulary)), rel=0.1)


def test_the_checkpoint_says_what_it_was_trained_on(captions, vocabulary, features, compute):
    settings = settings_of(epochs=1)
    history = []
    checkpoint = train(
        captions, vocabulary, features, settings, compute, log=lambda row, *, step: history.append((step, row))
    )
    checkpoint.require_vocabulary(vocabulary.digest)
    assert checkpoint.dataset_digest == captions.digest
    assert checkpoint.sizes == {"vocabulary_size": len(vocabulary), "feature_size": 16}
    assert checkpoint.settings["features"] == "eight"
    assert [step for step, _ in history] == [1]
    assert {"train/loss", "val/loss", "val/perplexity", "learning_rate"} <= set(history[0][1])


def test_features_are_scaled_by_the_train_split_alone(captions, vocabulary, features, compute):
    elsewhere = features.pooled.copy()
    elsewhere[8:] += 50  # the val rows
    changed = Features(elsewhere, features.index)
    states = [
        train(captions, vocabulary, each, settings_of(epochs=1), compute).state_dict for each in (features, changed)
    ]
    assert torch.equal(states[0]["scale.mean"], states[1]["scale.mean"])
    expected = torch.from_numpy(features.pooled[:8]).double().mean(dim=0)
    torch.testing.assert_close(states[0]["scale.mean"].double(), expected, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_weights(captions, vocabulary, features, compute):
    settings = settings_of(epochs=2, dropout=0.3)
    first, second = (train(captions, vocabulary, features, settings, compute).state_dict for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def batch_of(tokens, *, num_pads=0):
    tokens = torch.nn.functional.pad(torch.tensor(tokens), (0, num_pads))
    features = torch.randn(len(tokens), 16, generator=torch.Generator().manual_seed(0))
    return CaptionBatch(features, inputs=tokens[:, :-1], targets=tokens[:, 1:])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_padding_never_changes_the_loss(vocabulary, label_smoothing):
    captioner = new_captioner(settings_of(), vocabulary).eval()
    tokens = [[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]
    plain = token_losses(captioner, batch_of(tokens), label_smoothing=label_smoothing)
    padded = token_losses(captioner, batch_of(tokens, num_pads=9), label_smoothing=label_smoothing)
    assert len(plain) == 4 + 2  # what follows <bos>: four tokens and two
    torch.testing.assert_close(plain, padded, rtol=1e-5, atol=1e-6)


def test_every_token_weighs_alike_whatever_its_batch(captions, vocabulary, features, compute):
    captioner = new_captioner(settings_of(), vocabulary).eval()
    encoded = encode_captions(captions, "val", vocabulary, max_caption_length=20)
    losses = [mean_token_loss(captioner, encoded, features, batch_size=size, compute=compute) for size in (1, 3, 8)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_val_loss_knows_no_label_smoothing(captions, vocabulary, features, compute):
    rows = []
    for smoothing in (0.0, 0.2):
        settings = settings_of(epochs=1, label_smoothing=smoothing)
        captioner = new_captioner(settings, vocabulary)
        checkpoint = fit_captioner(
            captioner, captions, vocabulary, features, settings, seed=0, compute=compute,
            log=lambda row, *, step: rows.append(row), resume=None,
        )  # fmt: skip
        encoded = encode_captions(captions, "val", vocabulary, max_caption_length=20)
        again = mean_token_loss(restore_captioner(checkpoint), encoded, features, batch_size=8, compute=compute)
        assert rows[-1]["val/loss"] == pytest.approx(again, rel=1e-5)
