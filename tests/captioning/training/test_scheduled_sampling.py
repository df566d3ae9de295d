import pytest
import torch

from seesay.captioning.data.batches import CaptionBatch
from seesay.captioning.data.vocabulary import BOS, EOS, PAD, UNK
from seesay.captioning.training.fit import replace_inputs, share_at
from seesay.params.captioning import ScheduledSampling
from seesay.seeding import torch_generator


def batch_of(num_captions, *, first_word=4, num_words=9):
    """Captions of nine times the same word, every second one cut to three words."""
    tokens = torch.full((num_captions, num_words + 2), first_word)
    tokens[:, 0], tokens[:, -1] = BOS, EOS
    tokens[::2, 4], tokens[::2, 5:] = EOS, PAD
    return CaptionBatch(torch.zeros(num_captions, 16), inputs=tokens[:, :-1], targets=tokens[:, 1:])


def sampled(eight, batch, *, share, seed=0, captioner=None):
    captioner = captioner or eight.captioner(eight.settings()).train()
    return replace_inputs(captioner, batch, share=share, generator=torch_generator(seed, "test"))


def test_the_share_rises_evenly_from_none_to_the_largest():
    """It is none in the first epoch and the largest in the last."""
    settings = ScheduledSampling(max_share=0.4)
    assert [share_at(epoch, 5, settings) for epoch in (1, 2, 3, 4, 5)] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert share_at(1, 1, settings) == 0.0
    assert share_at(5, 5, None) == 0.0


def test_about_the_share_asked_for_is_replaced(eight):
    """Words drawn from a new captioner are almost all others than the one word there, of about 30 known ones."""
    batch = batch_of(400)
    words = batch.inputs > EOS
    for share in (0.25, 0.75):
        changed = sampled(eight, batch, share=share).inputs != batch.inputs
        assert changed[words].float().mean().item() == pytest.approx(share * (1 - 1 / 30), abs=0.03)


def test_bos_eos_and_pad_are_never_replaced_nor_drawn(eight):
    batch = batch_of(400)
    inputs = sampled(eight, batch, share=1.0).inputs
    words = batch.inputs > EOS
    assert torch.equal(inputs[~words], batch.inputs[~words])
    assert not set(inputs[words].tolist()) & {PAD, BOS, EOS, UNK}


def test_targets_and_features_stay_and_so_does_the_batch_itself(eight):
    batch = batch_of(8)
    before = batch.inputs.clone()
    after = sampled(eight, batch, share=1.0)
    assert after.targets is batch.targets
    assert after.features is batch.features
    assert torch.equal(batch.inputs, before)


def test_a_share_of_none_is_teacher_forcing(eight):
    batch = batch_of(8)
    assert sampled(eight, batch, share=0.0) is batch
    plain = eight.train(eight.settings(epochs=1))
    first_epoch = eight.train(eight.settings(epochs=1, scheduled_sampling={"max_share": 0.5}))
    assert plain.metrics == first_epoch.metrics


def test_later_epochs_differ_from_teacher_forcing(eight):
    plain = eight.train(eight.settings(epochs=3))
    mixed = eight.train(eight.settings(epochs=3, scheduled_sampling={"max_share": 0.5}))
    assert plain.metrics["train/loss"] != mixed.metrics["train/loss"]


def test_what_replaces_a_word_is_what_the_captioner_expects_there(eight):
    """One that always expects token 7 replaces words by 7."""
    captioner = eight.captioner(eight.settings()).train()
    with torch.no_grad():
        captioner.words.head.bias[7] = 50.0
    batch = batch_of(8)
    inputs = sampled(eight, batch, share=1.0, captioner=captioner).inputs
    assert (inputs[batch.inputs > EOS] == 7).all()


def test_draws_depend_on_the_generator_and_leave_the_captioner_in_training(eight):
    captioner = eight.captioner(eight.settings(architecture={"dropout": 0.5})).train()
    batch = batch_of(8)
    first = sampled(eight, batch, share=0.5, captioner=captioner).inputs
    assert all(module.training for module in captioner.modules())
    assert torch.equal(first, sampled(eight, batch, share=0.5, captioner=captioner).inputs)
    assert not torch.equal(first, sampled(eight, batch, share=0.5, captioner=captioner, seed=1).inputs)
