"""Ensembles of captioners: the mean of their members' probabilities at each word, in every way of decoding."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from seesay.captioning.decoding.decode import decode
from seesay.captioning.features.combined import CaptionerInputs
from seesay.captioning.networks.registry import build_captioner, ensemble_of, restore_captioner
from seesay.core.errors import InputError
from seesay.params.captioning import Beam, Greedy, Nucleus
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

VOCABULARY_SIZE, NUM_IMAGES = 15, 6
WAYS = (
    Greedy(method="greedy", max_length=6, batch_size=4),
    Beam(method="beam", beam_size=3, length_penalty=0.7, max_length=6, batch_size=4),
    Nucleus(method="nucleus", top_p=0.9, temperature=1.0, num_samples=3, max_length=6, batch_size=4),
)
ARCHITECTURES = {
    "lstm": {"image_enters": "initial_state", "embedding_size": 6, "hidden_size": 8},
    "updown": {"embedding_size": 6, "hidden_size": 8, "attention_size": 5},
    "transformer": {"hidden_size": 8, "num_layers": 2, "num_heads": 2},
}


def checkpoint_of(name, *, features="wide", feature_size=5, seed=0, vocabulary="v"):
    architecture = Architecture(name=name, **ARCHITECTURES[name])
    captioner = build_captioner(
        architecture, vocabulary_size=VOCABULARY_SIZE, feature_size=feature_size, seed=seed, key="architecture"
    )
    with torch.no_grad():
        captioner.words.head.weight.mul_(20)  # opinionated
    return Checkpoint(
        kind="captioner",
        dataset="scenes",
        dataset_digest="d",
        classes=(),
        vocabulary_digest=vocabulary,
        architecture={"name": name, "arguments": ARCHITECTURES[name]},
        sizes={"vocabulary_size": VOCABULARY_SIZE, "feature_size": feature_size},
        settings={"datasets": ["dots"], "vocabulary": "dots", "features": [features]},
        normalisation={},
        state_dict=captioner.state_dict(),
        metrics={},
    )


def features_of(size, places, *, seed):
    random = np.random.default_rng(seed)
    grid = random.normal(0, 2, (NUM_IMAGES, places, size)).astype(np.float16)
    arrays = {"pooled": grid.mean(axis=1), "grid": grid}
    return SimpleNamespace(array=arrays.__getitem__)


FEATURES = [features_of(5, 4, seed=0), features_of(3, 9, seed=1)]
ROWS = np.arange(NUM_IMAGES)


def three():
    """An LSTM and a transformer on the first features, and UpDown on the second."""
    return {
        "a": checkpoint_of("lstm"),
        "b": checkpoint_of("updown", features="narrow", feature_size=3),
        "c": checkpoint_of("transformer"),
    }


def ensemble(checkpoints):
    return ensemble_of(checkpoints, ["wide", "narrow"], places=[4, 9])


def inputs_of(captioner, *, position=None):
    features = FEATURES if position is None else [FEATURES[position]]
    return torch.from_numpy(CaptionerInputs(captioner.inputs(), features).rows(ROWS)).float()


@torch.no_grad()
def test_a_words_probability_is_the_mean_of_the_members():
    checkpoints = three()
    members = [restore_captioner(one) for one in checkpoints.values()]
    joined = restore_captioner(ensemble(checkpoints))
    tokens = torch.randint(4, VOCABULARY_SIZE, (NUM_IMAGES, 5), generator=torch.Generator().manual_seed(2))
    each = [
        member(inputs_of(member, position=position), tokens).softmax(dim=2)
        for member, position in zip(members, (0, 1, 0), strict=True)
    ]
    torch.testing.assert_close(joined(inputs_of(joined), tokens).exp(), sum(each) / 3)
    assert joined.inputs() == [(0, "pooled"), (1, "grid"), (0, "grid")]
    memory = joined.memory(inputs_of(joined))
    state, stepped = joined.initial_state(memory), []
    for position in range(5):
        logits, state = joined.step(tokens[:, [position]], state, memory)
        stepped.append(logits)
    torch.testing.assert_close(torch.cat(stepped, dim=1).exp(), sum(each) / 3)


@pytest.mark.parametrize("decoding", WAYS, ids=lambda one: one.method)
def test_copies_of_one_captioner_say_what_it_says_alone(decoding):
    alone = restore_captioner(checkpoint_of("transformer"))
    joined = restore_captioner(ensemble({"a": checkpoint_of("transformer"), "b": checkpoint_of("transformer")}))
    expected = decode(alone, inputs_of(alone), decoding, seed=0)
    found = decode(joined, inputs_of(joined), decoding, seed=0)
    assert [[one.token_ids for one in image] for image in found] == [[one.token_ids for one in e] for e in expected]


@pytest.mark.parametrize("decoding", WAYS, ids=lambda one: one.method)
def test_an_ensemble_captions_images_together_as_it_does_alone(decoding):
    joined = restore_captioner(ensemble(three()))
    found = decode(joined, inputs_of(joined), decoding, seed=0)
    alone = decode(joined, inputs_of(joined), decoding.model_copy(update={"batch_size": 1}), seed=0)
    assert [[one.token_ids for one in image] for image in found] == [[one.token_ids for one in e] for e in alone]


def test_members_of_ensembles_weigh_as_much_as_others(tmp_path):
    checkpoints = three()
    pair = ensemble({name: checkpoints[name] for name in ("a", "b")})
    pair.settings.update(
        datasets=["dots"], vocabulary="dots", features=["narrow", "wide"]
    )  # an experiment that names them in another order
    pair.architecture["arguments"]["members"] = [
        {**one, "input": 1 - one["input"]} for one in pair.architecture["arguments"]["members"]
    ]
    save_checkpoint(tmp_path / "nested", ensemble({"pair": pair, "c": checkpoints["c"]}))
    nested = restore_captioner(load_checkpoint(tmp_path / "nested", kind="captioner"))
    flat = restore_captioner(ensemble(checkpoints))
    tokens = torch.full((NUM_IMAGES, 3), 7)
    assert nested.inputs() == flat.inputs()
    torch.testing.assert_close(nested(inputs_of(nested), tokens), flat(inputs_of(flat), tokens))


def test_its_attention_is_the_mean_of_the_members_that_attend_alike():
    checkpoints = {"a": checkpoint_of("transformer"), "b": checkpoint_of("updown"), "c": checkpoint_of("lstm")}
    joined = restore_captioner(ensemble(checkpoints))
    tokens = torch.full((NUM_IMAGES, 3), 7)
    each = []
    for name in ("a", "b"):
        member = restore_captioner(checkpoints[name])
        each.append(member.attention(inputs_of(member, position=0), tokens))
    found = joined.attention(inputs_of(joined), tokens)
    torch.testing.assert_close(found, sum(each) / 2)
    torch.testing.assert_close(found.sum(dim=2), torch.ones(NUM_IMAGES, 3))


def test_members_of_other_vocabularies_or_features_are_refused():
    with pytest.raises(InputError, match="vocabulary"):
        ensemble({"a": checkpoint_of("lstm"), "b": checkpoint_of("lstm", vocabulary="w")})
    with pytest.raises(InputError, match=r"captioners/b: reads other: expected one of wide, narrow"):
        ensemble({"a": checkpoint_of("lstm"), "b": checkpoint_of("lstm", features="other")})


def test_the_mean_of_two_words_is_worked_out_by_hand():
    # 0.6 and 0.2 have the mean 0.4, 0.1 and 0.5 the mean 0.3; a shift of all logits changes no probability.
    from seesay.captioning.networks.registry import _mean

    first, second = torch.tensor([0.6, 0.1, 0.3]).log(), torch.tensor([0.2, 0.5, 0.3]).log()
    assert _mean([first, second + 5.0]).exp().tolist() == pytest.approx([0.4, 0.3, 0.3])
