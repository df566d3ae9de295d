import numpy as np
import pytest
import torch

from seesay.captioning.data.batches import CaptionBatch, ImageBatch
from seesay.captioning.data.vocabulary import EOS, PAD
from seesay.captioning.training.fit import replace_inputs
from seesay.captioning.training.reward import advantages, self_critical_step, token_log_probabilities
from seesay.captioning.training.validation import token_losses
from seesay.core.errors import InputError
from seesay.seeding import torch_generator
from seesay.training.checkpoint import save_checkpoint

WORD = 7


def share_of_word(images, captions):
    """A toy's reward: how much of a caption is the one word."""
    return np.array([caption.count(WORD) / len(caption) for caption in captions])


def step_of(eight, captioner, *, reward, seed=0, num_samples=4, max_length=6):
    batch = ImageBatch(torch.from_numpy(eight.features.pooled[:8]).float(), np.arange(8))
    generator = torch_generator(seed, "test")
    return self_critical_step(
        captioner, batch, num_samples=num_samples, max_length=max_length, reward=reward, generator=generator
    )


def test_the_baseline_of_a_caption_is_the_mean_of_the_others():
    """Of 1, 2 and 6 the others' means are (2 + 6) / 2 = 4, (1 + 6) / 2 = 3.5, (1 + 2) / 2 = 1.5."""
    assert advantages(torch.tensor([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]])).tolist() == [[-3.0, -1.5, 4.5], [0.0] * 3]


def test_equal_rewards_teach_nothing(eight):
    captioner = eight.captioner(eight.settings()).train()
    step = step_of(eight, captioner, reward=lambda images, captions: np.full(len(captions), 0.7))
    step.loss.backward()
    assert all(not parameter.grad.any() for parameter in captioner.parameters() if parameter.grad is not None)


def test_a_rewarded_word_becomes_likelier(eight):
    captioner = eight.captioner(eight.settings()).train()
    optimizer = torch.optim.Adam(captioner.parameters(), lr=0.02)
    rewards = []
    for seed in range(30):
        step = step_of(eight, captioner, reward=share_of_word, seed=seed)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        rewards.append(float(step.sums["reward"]) / step.num_examples)
    assert rewards[0] < 0.1
    assert rewards[-1] > 0.5


def test_the_loss_is_the_one_worked_by_hand(eight):
    """Minus the mean over all tokens, <eos> included, of (reward - mean reward of the others) * log p(token)."""
    captioner, seen = eight.captioner(eight.settings()).train(), []

    def reward(images, captions):
        seen.append((images, captions))
        return np.arange(len(captions), dtype=float) ** 2

    loss = step_of(eight, captioner, reward=reward, num_samples=3).loss.item()
    ((images, captions),) = seen
    assert images.tolist() == [image for image in range(8) for _ in range(3)]
    captioner.eval()
    terms = []
    for number, caption in enumerate(captions):
        others = [other**2 for other in range(number // 3 * 3, number // 3 * 3 + 3) if other != number]
        features = torch.from_numpy(eight.features.pooled[number // 3]).float()
        logits = captioner(features[None], torch.tensor([[1, *caption[:-1]]]))[0].detach()
        logits[:, [0, 1, 3]] = -torch.inf
        logs = logits.log_softmax(dim=1)
        terms += [-(number**2 - sum(others) / 2) * logs[place, token].item() for place, token in enumerate(caption)]
    assert loss == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_captions_are_judged_with_their_eos_and_cut_ones_without(eight):
    captioner, seen = eight.captioner(eight.settings()).train(), []

    def reward(images, captions):
        seen.extend(captions)
        return np.zeros(len(captions))

    step = step_of(eight, captioner, reward=reward, num_samples=50, max_length=20)
    assert all(PAD not in caption for caption in seen)
    assert all(EOS not in caption[:-1] for caption in seen)
    cut = [caption for caption in seen if caption[-1] != EOS]
    assert 0 < len(cut) < len(seen)
    assert all(len(caption) == 20 for caption in cut)
    assert float(step.sums["unended"]) == len(cut)


def test_padding_takes_no_part(eight):
    captioner = eight.captioner(eight.settings()).eval()
    features = torch.from_numpy(eight.features.pooled[:1]).float()
    drawn = torch.tensor([[[5, 6, EOS], [7, EOS, PAD]]])
    plain = token_log_probabilities(captioner, features, drawn)
    padded = token_log_probabilities(captioner, features, torch.nn.functional.pad(drawn, (0, 4)))
    torch.testing.assert_close(padded[:, :, :3], plain)
    assert not padded[:, :, 3:].any()
    assert (plain != 0).tolist() == [[[True] * 3, [True, True, False]]]


@pytest.mark.parametrize("lesson", ["by reward", "with own words"])
def test_every_weight_learns_under_autocast(eight, lesson):
    """The pass that samples comes first and has no gradient. A GRU: not every processor has an LSTM in bfloat16."""
    captioner = eight.captioner(eight.settings(architecture={"name": "gru"})).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        if lesson == "by reward":
            loss = step_of(eight, captioner, reward=share_of_word, num_samples=16).loss
        else:
            tokens = torch.tensor([[1, 5, 6, 7, 2]]).expand(8, -1)
            batch = batch_with(eight, tokens)
            batch = replace_inputs(captioner, batch, share=0.9, generator=torch_generator(0, "test"))
            loss = token_losses(captioner, batch, label_smoothing=0.0).mean()
    loss.backward()
    assert [name for name, parameter in captioner.named_parameters() if parameter.grad is None] == []
    assert [name for name, parameter in captioner.named_parameters() if not parameter.grad.any()] == []


def batch_with(eight, tokens):
    return CaptionBatch(torch.from_numpy(eight.features.pooled[:8]).float(), tokens[:, :-1], tokens[:, 1:])


def by_reward(eight, **changes):
    settings = {"start": ["captioners/parent"], "best_by": "cider_d", "self_critical": {"num_samples": 4}, **changes}
    return eight.settings(**settings)


def test_training_by_reward_raises_the_reward_and_logs_it(eight):
    parent = eight.train(eight.settings(epochs=6))
    captioner = eight.captioner(eight.settings())
    captioner.load_state_dict(parent.state_dict)
    eight.logged.clear()
    checkpoint = eight.train(by_reward(eight, epochs=20, self_critical={"num_samples": 24}), captioner=captioner)
    rewards = [row["train/reward"] for _, row in eight.logged]
    assert sum(rewards[-3:]) / 3 > 1.5 * rewards[0]
    assert {"train/reward", "train/unended", "val/cider_d", "val/loss"} <= set(checkpoint.metrics)
    assert checkpoint.metrics["val/cider_d"] == max(row["val/cider_d"] for _, row in eight.logged)


def test_a_killed_training_by_reward_ends_in_the_same_bytes(eight, tmp_path):
    settings = by_reward(eight, epochs=4, architecture={"dropout": 0.3})
    whole, history = eight.train(settings), eight.logged.copy()
    eight.logged.clear()
    eight.fail_in_epoch = 2
    with pytest.raises(KeyboardInterrupt):
        eight.train(settings, resume=tmp_path / "state")
    eight.logged.clear()
    eight.fail_in_epoch = None
    resumed = eight.train(settings, resume=tmp_path / "state")
    assert eight.logged == history
    for name, checkpoint in (("whole", whole), ("resumed", resumed)):
        save_checkpoint(tmp_path / name, checkpoint)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "resumed").read_bytes()


def test_learning_by_reward_from_untrained_weights_is_refused(eight):
    """It needs a captioner that has learned from captions."""
    with pytest.raises(InputError, match="start: got scratch: expected captioners/<name> with self_critical"):
        by_reward(eight, start=["scratch"])
