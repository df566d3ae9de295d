import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from seesay.captioning.data.batches import CaptionBatch, encode_captions, references_of
from seesay.captioning.data.records import CaptionRecord, collect_records
from seesay.captioning.decoding.sampling import greedy_search
from seesay.captioning.features.combined import CombinedFeatures
from seesay.captioning.features.store import Features
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.training.experiments import start_captioner
from seesay.captioning.training.fit import TrainingDataset
from seesay.captioning.training.reward import ValidationScore
from seesay.captioning.training.validation import mean_token_loss, token_losses
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.sources.provenance import SourceNote
from seesay.training.checkpoint import save_checkpoint
from seesay.training.checks import TrainingError

ATTENTION = {
    "name": "soft_attention",
    "embedding_size": 24,
    "hidden_size": 48,
    "attention_size": 24,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "tie_weights": False,
}


def same_weights(first, second):
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first)


def with_attention(settings):
    architecture = {name: value for name, value in ATTENTION.items() if name != "name"}
    return settings.model_copy(
        update={"architecture": type(settings.architecture)(name="soft_attention", **architecture)}
    )


def val_loss(eight, captioner, *, features=None):
    encoded = encode_captions([eight.captions], "val", eight.vocabulary, max_caption_length=20)
    rows = CombinedFeatures([features or eight.features], captioner.looks_at)
    with torch.no_grad():
        return mean_token_loss(captioner.eval(), encoded, rows, device=torch.device("cpu"))


@pytest.mark.parametrize("looks_at", ["pooled", "grid"])
def test_it_learns_eight_captions_by_heart(eight, looks_at):
    settings = eight.settings() if looks_at == "pooled" else with_attention(eight.settings())
    checkpoint = eight.train(settings)
    captioner = restore_captioner(checkpoint)
    seen = torch.from_numpy(eight.features.array(looks_at)[:8]).float()
    said = greedy_search(captioner, seen, max_length=20)
    expected = [record.captions[0] for record in eight.captions.of("train")]
    assert [" ".join(eight.vocabulary.decode(caption.token_ids)) for caption in said] == expected
    assert checkpoint.metrics["val/loss"] < 0.1
    assert checkpoint.metrics["val/perplexity"] == pytest.approx(math.exp(checkpoint.metrics["val/loss"]))


def test_the_first_loss_is_that_of_knowing_nothing(eight):
    captioner = eight.captioner(eight.settings())
    assert val_loss(eight, captioner) == pytest.approx(math.log(len(eight.vocabulary)), rel=0.1)


def test_the_checkpoint_says_what_it_was_trained_on(eight):
    checkpoint = eight.train(eight.settings(epochs=1))
    checkpoint.require_vocabulary(eight.vocabulary.digest)
    assert checkpoint.dataset_digest == eight.captions.digest
    assert checkpoint.sizes == {"vocabulary_size": len(eight.vocabulary), "feature_size": 16}
    assert checkpoint.settings["features"] == ["eight_seen"]
    ((epoch, row),) = eight.logged
    assert epoch == 1
    assert set(row) == {"train/loss", "val/loss", "val/perplexity", "learning_rate"}


def test_features_are_scaled_by_the_train_split_alone(eight):
    elsewhere = eight.features.pooled.copy()
    elsewhere[8:] += 50  # the val rows
    changed = Features(elsewhere, eight.features.index)
    states = [
        eight.train(eight.settings(epochs=1), learned=[TrainingDataset(eight.captions, each)]).state_dict
        for each in (eight.features, changed)
    ]
    assert torch.equal(states[0]["scale.mean"], states[1]["scale.mean"])
    expected = torch.from_numpy(eight.features.pooled[:8]).double().mean(dim=0)
    torch.testing.assert_close(states[0]["scale.mean"].double(), expected, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_weights(eight):
    settings = eight.settings(epochs=2, architecture={"dropout": 0.3})
    first, second = (eight.train(settings).state_dict for _ in range(2))
    assert same_weights(first, second)


@pytest.mark.parametrize("sampled", [None, {"max_share": 0.5}])
def test_a_killed_training_ends_in_the_same_bytes(eight, tmp_path, sampled):
    settings = eight.settings(
        epochs=4, best_by="cider_d", scheduled_sampling=sampled, architecture={"dropout": 0.3, "embedding_dropout": 0.1}
    )
    whole, history = eight.train(settings), eight.logged.copy()
    eight.logged.clear()
    eight.fail_in_epoch = 3
    with pytest.raises(KeyboardInterrupt):
        eight.train(settings, resume=tmp_path / "state")
    eight.logged.clear()
    eight.fail_in_epoch = None
    resumed = eight.train(settings, resume=tmp_path / "state")
    assert eight.logged == history
    for name, checkpoint in (("whole", whole), ("resumed", resumed)):
        save_checkpoint(tmp_path / name, checkpoint)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


def batch_of(tokens, *, num_pads=0):
    tokens = torch.nn.functional.pad(torch.tensor(tokens), (0, num_pads))
    features = torch.randn(len(tokens), 16, generator=torch.Generator().manual_seed(0))
    return CaptionBatch(features, inputs=tokens[:, :-1], targets=tokens[:, 1:])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_padding_never_changes_the_loss(eight, label_smoothing):
    captioner = eight.captioner(eight.settings()).eval()
    tokens = [[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]
    plain = token_losses(captioner, batch_of(tokens), label_smoothing=label_smoothing)
    padded = token_losses(captioner, batch_of(tokens, num_pads=9), label_smoothing=label_smoothing)
    assert len(plain) == 4 + 2  # what follows <bos>: four tokens and two
    torch.testing.assert_close(plain, padded, rtol=1e-5, atol=1e-6)


def test_label_smoothing_is_the_one_worked_by_hand(eight):
    """With smoothing 0.1 over V tokens the target has 0.9 + 0.1 / V, each other token 0.1 / V."""
    captioner, batch = eight.captioner(eight.settings()).eval(), batch_of([[1, 5, 2]])
    logs = captioner(batch.features, batch.inputs)[0].log_softmax(dim=1)
    expected = [-0.9 * logs[position, token] - 0.1 * logs[position].mean() for position, token in ((0, 5), (1, 2))]
    torch.testing.assert_close(token_losses(captioner, batch, label_smoothing=0.1), torch.stack(expected))


def test_every_token_weighs_alike_whatever_its_batch(eight, monkeypatch):
    captioner = eight.captioner(eight.settings())
    losses = []
    for size in (1, 3, 8):
        monkeypatch.setattr("seesay.captioning.training.validation.BATCH_SIZE", size)
        losses.append(val_loss(eight, captioner))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_val_loss_knows_no_label_smoothing(eight):
    for smoothing in (0.0, 0.2):
        checkpoint = eight.train(eight.settings(epochs=1, label_smoothing=smoothing))
        assert eight.logged[-1][1]["val/loss"] == pytest.approx(
            val_loss(eight, restore_captioner(checkpoint)), rel=1e-5
        )


def test_the_epoch_of_the_highest_cider_d_is_kept_whatever_its_loss(eight):
    scores = iter([0.1, 0.9, 0.5, 0.9, 0.3])
    checkpoint = eight.train(eight.settings(epochs=5, best_by="cider_d", patience=3), score=lambda said: next(scores))
    assert checkpoint.metrics["best_epoch"] == 4  # of equals the one with the lower loss
    assert checkpoint.metrics["val/cider_d"] == 0.9
    losses = [row["val/loss"] for _, row in eight.logged]
    assert len(losses) == 5  # patience counts by the same metric
    assert min(losses) < losses[3]


def test_a_score_of_a_single_val_image_may_not_choose_the_epoch(eight):
    """Its n-grams are in every image, so their weight is log(1) = 0."""
    records = [record for record in eight.captions.records if record.split == "train" or record.image_id == 100]
    eight.captions = collect_records("eight", records, SourceNote("eight", ()))
    index = replace(eight.features.index, dataset_digest=eight.captions.digest)
    eight.features = Features(eight.features.pooled[:9], index, grid=eight.features.grid[:9])
    with pytest.raises(InputError, match="eight: got 1 val image: best_by: cider_d needs at least two"):
        eight.train(eight.settings(epochs=2, best_by="cider_d"))
    assert eight.train(eight.settings(epochs=1)).metrics["best_epoch"] == 1


def test_what_is_scored_are_greedy_captions_of_the_val_images(eight):
    seen = []

    def score(said):
        seen.append(said)
        return float(len(seen))

    checkpoint = eight.train(eight.settings(epochs=2, best_by="cider_d"), score=score)
    captioner = restore_captioner(checkpoint)
    said = greedy_search(captioner, torch.from_numpy(eight.features.pooled[8:]).float(), max_length=20)
    assert seen[-1] == [list(caption.token_ids) for caption in said]


def test_val_cider_d_is_that_of_the_metric(eight):
    captions = [eight.vocabulary.encode(record.captions[0].split()) for record in eight.captions.of("val")]
    score = ValidationScore(references_of([eight.captions], "val"), eight.vocabulary)
    # Those of four words and more agree with themselves in all four orders; "two dogs run" has no four, "a boat" and
    # "the sky" two orders: (5 * 10 + 7.5 + 2 * 5) / 8.
    assert score(captions) == pytest.approx((5 * 10 + 7.5 + 2 * 5) / 8)


def test_a_score_that_is_no_number_stops_the_training(eight):
    with pytest.raises(TrainingError, match="val/cider_d is nan after epoch 1"):
        eight.train(eight.settings(epochs=1, best_by="cider_d"), score=lambda said: math.nan)


def test_two_datasets_are_learned_from_and_the_first_alone_is_validated_on(eight):
    record = CaptionRecord(1, "1.png", "images.zip", "train", ("a red dog",), 8, 8)
    others = collect_records("others", [record], eight.captions.source)
    pooled = np.full((1, 16), 9.0, dtype=np.float16)
    index = replace(eight.features.index, dataset="others", shape=pooled.shape)
    settings = eight.settings(datasets=("eight", "others"), features=("eight_seen", "others_seen"), epochs=80)
    assert eight.features.grid is not None
    grid = np.full((1, 4, 16), 9.0, dtype=np.float16)
    learned = [TrainingDataset(eight.captions, eight.features), TrainingDataset(others, Features(pooled, index, grid))]
    captioner = restore_captioner(eight.train(settings, learned=learned))
    (said,) = greedy_search(captioner, torch.from_numpy(pooled).float(), max_length=20)
    assert eight.vocabulary.decode(said.token_ids) == ["a", "red", "dog"]
    expected = torch.from_numpy(np.concatenate([eight.features.pooled[:8], pooled])).double().mean(dim=0)
    torch.testing.assert_close(captioner.scale.mean.double(), expected, rtol=1e-4, atol=1e-4)


def test_features_of_two_datasets_must_come_from_one_encoder(eight):
    """The refusal names both feature arrays."""
    settings = eight.settings(datasets=("eight", "others"), features=("eight_seen", "others_seen"))
    other = replace(eight.features, index=replace(eight.features.index, encoder="another"))
    learned = [TrainingDataset(eight.captions, eight.features), TrainingDataset(eight.captions, other)]
    with pytest.raises(InputError, match=r"features eight_seen and others_seen: .* encoders differ"):
        eight.train(settings, learned=learned)


def built_on(eight, tmp_path, **changes):
    """Saves a trained captioner as the cell `parent`, and starts another that is built on it."""
    parent = eight.train(eight.settings(epochs=2))
    save_checkpoint(Paths(tmp_path).captioner("parent"), parent)
    vocabulary, size = changes.pop("vocabulary", eight.vocabulary), changes.pop("feature_size", 16)
    settings = eight.settings(start=["captioners/parent"], epochs=1, **changes)
    started = start_captioner("child", settings, vocabulary, Paths(tmp_path), feature_size=size, seed=1)
    return parent, settings, started


def test_a_captioner_built_on_another_starts_from_its_weights_and_scale(eight, tmp_path):
    parent, settings, started = built_on(eight, tmp_path)
    assert same_weights(parent.state_dict, started.state_dict())
    elsewhere = Features(eight.features.pooled + np.float16(50), eight.features.index)
    child = eight.train(settings, captioner=started, learned=[TrainingDataset(eight.captions, elsewhere)])
    assert torch.equal(child.state_dict["scale.mean"], parent.state_dict["scale.mean"])
    assert not same_weights(parent.state_dict, child.state_dict)


def test_a_captioner_is_not_built_on_one_with_another_vocabulary(eight, tmp_path):
    tokens = (*eight.vocabulary.tokens[:-2], *reversed(eight.vocabulary.tokens[-2:]))
    with pytest.raises(InputError, match=r"captioners.child.learning.vocabulary: got .* that of parent"):
        built_on(eight, tmp_path, vocabulary=replace(eight.vocabulary, tokens=tokens))


def test_a_captioner_is_not_built_on_one_of_other_sizes(eight, tmp_path):
    with pytest.raises(InputError, match=r"captioners.child.learning.architecture: .* that of parent"):
        built_on(eight, tmp_path, architecture={"hidden_size": 32})
    with pytest.raises(InputError, match=r"captioners.child.learning.features: got 8: expected 16"):
        built_on(eight, tmp_path, feature_size=8)


def test_a_captioner_whose_parent_is_missing_says_so(eight, tmp_path):
    settings = eight.settings(start=["captioners/parent"])
    with pytest.raises(InputError, match=r"models/captioners/parent/captioner.pt: no such file"):
        start_captioner("child", settings, eight.vocabulary, Paths(tmp_path), feature_size=16, seed=0)
