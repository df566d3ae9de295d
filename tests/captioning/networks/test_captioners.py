"""What all captioners promise, held by each of them."""

import math

import pytest
import torch
from torch.nn import functional as F

from seesay.captioning.data.vocabulary import BOS, EOS, PAD
from seesay.captioning.networks.recurrent import LSTMCaptioner
from seesay.captioning.networks.registry import CAPTIONERS, build_captioner, restore_captioner
from seesay.core.errors import InputError
from seesay.params.classification import Architecture
from seesay.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

POOLED = {
    "image_enters": "initial_state",
    "embedding_size": 8,
    "hidden_size": 12,
    "dropout": 0.3,
    "embedding_dropout": 0.2,
    "tie_weights": False,
}
GRID = {name: value for name, value in POOLED.items() if name != "image_enters"} | {"attention_size": 10}
LAYERS = {name: value for name, value in GRID.items() if name not in ("embedding_size", "attention_size")}
LAYERS |= {"num_layers": 2, "num_heads": 3}
ARCHITECTURES = {
    "lstm": {"name": "lstm", **POOLED},
    "lstm, image as first word": {"name": "lstm", **POOLED, "image_enters": "first_word"},
    "gru": {"name": "gru", **POOLED},
    "gru, image as first word": {"name": "gru", **POOLED, "image_enters": "first_word"},
    "gru, tied": {"name": "gru", **POOLED, "tie_weights": True},
    "soft_attention": {"name": "soft_attention", **GRID},
    "soft_attention, tied": {"name": "soft_attention", **GRID, "tie_weights": True},
    "att2in": {"name": "att2in", **GRID},
    "updown": {"name": "updown", **GRID},
    "updown, tied": {"name": "updown", **GRID, "tie_weights": True},
    "transformer": {"name": "transformer", **LAYERS},
    "transformer, tied": {"name": "transformer", **LAYERS, "tie_weights": True},
}
ATTENDING = [name for name in ARCHITECTURES if CAPTIONERS[ARCHITECTURES[name]["name"]].looks_at == "grid"]
KEY = "captioners.x.learning.architecture"
VOCABULARY_SIZE, FEATURE_SIZE, NUM_PLACES = 20, 6, 4


def build(which, *, seed=0, **changed):
    architecture = Architecture(**{**ARCHITECTURES[which], **changed})
    return build_captioner(architecture, vocabulary_size=VOCABULARY_SIZE, feature_size=FEATURE_SIZE, seed=seed, key=KEY)


def features_for(captioner, *, num_images=5, seed=1):
    shape = (num_images, FEATURE_SIZE) if captioner.looks_at == "pooled" else (num_images, NUM_PLACES, FEATURE_SIZE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=list(ARCHITECTURES))
def name(request):
    return request.param


@pytest.fixture
def captioner(name):
    return build(name).eval()


@pytest.fixture
def features(captioner):
    return features_for(captioner)


@pytest.fixture
def tokens():
    return torch.randint(4, VOCABULARY_SIZE, (5, 7), generator=torch.Generator().manual_seed(2))


def test_every_captioner_is_tested_here():
    assert {architecture["name"] for architecture in ARCHITECTURES.values()} == set(CAPTIONERS)


def test_logits_are_finite_and_of_each_position_and_token(captioner, features, tokens):
    logits = captioner(features, tokens)
    assert logits.shape == (5, 7, VOCABULARY_SIZE)
    assert logits.isfinite().all()


def test_later_tokens_never_change_earlier_logits(captioner, features, tokens):
    changed = tokens.clone()
    changed[:, 4:] = 4 + (changed[:, 4:] - 4 + 3) % (VOCABULARY_SIZE - 4)
    before, after = captioner(features, tokens), captioner(features, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-6)
    assert (before[:, 4:] - after[:, 4:]).abs().amax(dim=(0, 2)).min() > 1e-4


def test_padding_after_the_end_changes_nothing_before_it(captioner, features, tokens):
    padded = torch.cat((tokens, torch.full((5, 3), PAD)), dim=1)
    torch.testing.assert_close(
        captioner.hidden(features, padded)[:, :7], captioner.hidden(features, tokens), rtol=0, atol=1e-6
    )


def test_the_image_changes_the_logits_of_every_position(captioner, features, tokens):
    difference = captioner(features, tokens) - captioner(features.flip(0), tokens)
    assert difference[[0, 1, 3, 4]].abs().amax(dim=(0, 2)).min() > 1e-5  # the middle image stays in its place


def test_captions_of_a_batch_do_not_touch_each_other(captioner, features, tokens):
    alone = torch.cat([captioner(features[[row]], tokens[[row]]) for row in range(5)])
    torch.testing.assert_close(alone, captioner(features, tokens), rtol=1e-4, atol=1e-5)


def test_stepping_gives_the_logits_of_teacher_forcing(captioner, features, tokens):
    memory = captioner.memory(features)
    state, stepped = captioner.initial_state(memory), []
    for position in range(tokens.shape[1]):
        logits, state = captioner.step(tokens[:, [position]], state, memory)
        stepped.append(logits)
    torch.testing.assert_close(torch.cat(stepped, dim=1), captioner(features, tokens), rtol=1e-4, atol=1e-5)


def test_beams_of_an_image_are_each_what_they_are_alone(captioner, features):
    beams = torch.randint(4, VOCABULARY_SIZE, (5, 3, 6), generator=torch.Generator().manual_seed(3))
    memory = captioner.memory(features)
    first = captioner.initial_state(memory)
    state = tuple(part.expand(5, 3, *part.shape[2:]) for part in first)
    for position in range(6):
        logits, state = captioner.step(beams[:, :, position], state, memory)
        assert logits.shape == (5, 3, VOCABULARY_SIZE)
        for beam in range(3):
            alone = captioner(features, beams[:, beam, : position + 1])[:, -1]
            torch.testing.assert_close(logits[:, beam], alone, rtol=1e-4, atol=1e-5)


def test_states_and_memory_are_reordered_by_indexing_their_tensors(captioner, features, tokens):
    memory = captioner.memory(features)
    assert all(len(part) == 5 for part in memory)
    first = captioner.initial_state(memory)
    assert all(part.shape[:2] == (5, 1) for part in first)
    _, state = captioner.step(tokens[:, [0]], first, memory)
    assert [(part.shape[:2], part.dtype) for part in state] == [(part.shape[:2], part.dtype) for part in first]
    expected, _ = captioner.step(tokens[:, [1]], state, memory)
    order = torch.tensor([3, 3, 0])
    found, _ = captioner.step(
        tokens[order][:, [1]], tuple(part[order] for part in state), tuple(part[order] for part in memory)
    )
    torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-6)


def test_every_parameter_gets_a_gradient(captioner, features, tokens):
    captioner.train()
    captioner(features, tokens).square().sum().backward()
    for name, parameter in captioner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("training", [False, True])
def test_under_bfloat16_logits_are_those_of_float32_to_its_precision(captioner, features, tokens, training):
    if isinstance(captioner, LSTMCaptioner) and not torch.cpu.get_capabilities().get("avx512_f"):
        pytest.skip("torch has no LSTM in bfloat16 for processors without AVX-512")
    captioner = build_like(captioner, dropout=0.0, embedding_dropout=0.0).train(training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = captioner(features, tokens)
        memory = captioner.memory(features)
        state = captioner.initial_state(memory)
        stepped, after = captioner.step(tokens[:, [0]], state, memory)
    assert logits.dtype == torch.bfloat16
    assert [part.dtype for part in state] == [part.dtype for part in after]
    torch.testing.assert_close(logits.float(), captioner(features, tokens), rtol=0.05, atol=0.02)
    torch.testing.assert_close(stepped.float(), logits[:, :1].float(), rtol=0.05, atol=0.02)
    logits.float().square().sum().backward()
    for parameter in captioner.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def build_like(captioner, **changed):
    name = next(name for name in ARCHITECTURES if build(name).state_dict().keys() == captioner.state_dict().keys())
    return build(name, **changed)


def test_dropout_is_for_training_alone(captioner, features, tokens):
    assert torch.equal(captioner(features, tokens), captioner(features, tokens))
    captioner.train()
    assert not torch.equal(captioner(features, tokens), captioner(features, tokens))


def test_first_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(99)
    first, again, other = build(name).state_dict(), build(name).state_dict(), build(name, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["words.vectors.weight"], other["words.vectors.weight"])


def test_at_first_every_word_is_about_as_likely_as_any_other(captioner, features, tokens):
    # Training refuses to start where the first loss is far from ln V.
    losses = F.cross_entropy(captioner(features, tokens).flatten(0, 1), tokens.flatten(), reduction="none")
    assert losses.mean().item() == pytest.approx(math.log(VOCABULARY_SIZE), rel=0.15)


def test_a_restored_captioner_says_the_same(name, features, tokens, tmp_path):
    captioner = build(name).eval()
    captioner.scale.measure(features)
    path = tmp_path / "captioner.pt"
    save_checkpoint(path, checkpoint_of(captioner, name))
    restored = restore_captioner(load_checkpoint(path, kind="captioner"))
    assert not restored.training
    assert torch.equal(restored(features, tokens), captioner(features, tokens))


def test_it_is_built_without_memory_where_only_its_arguments_are_checked(name):
    with torch.device("meta"):
        captioner = build(name)
    assert all(parameter.is_meta for parameter in captioner.parameters())


def test_it_learns_eight_captions_by_heart(name):
    larger = {"embedding_size": 24, "hidden_size": 36, "attention_size": 16, "dropout": 0.0, "embedding_dropout": 0.0}
    known = ARCHITECTURES[name]
    captioner = build(name, **{argument: value for argument, value in larger.items() if argument in known})
    features = features_for(captioner, num_images=8)
    captions = torch.randint(4, VOCABULARY_SIZE, (8, 6), generator=torch.Generator().manual_seed(4))
    inputs = torch.cat((torch.full((8, 1), BOS), captions), dim=1)
    targets = torch.cat((captions, torch.full((8, 1), EOS)), dim=1)
    optimizer = torch.optim.Adam(captioner.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(captioner(features, inputs).flatten(0, 1), targets.flatten()).backward()
        optimizer.step()
    assert torch.equal(greedily(captioner.eval(), features, num_words=7), targets)


@torch.no_grad()
def greedily(captioner, features, *, num_words):
    memory = captioner.memory(features)
    state, words = captioner.initial_state(memory), [torch.full((len(features), 1), BOS)]
    for _ in range(num_words):
        logits, state = captioner.step(words[-1], state, memory)
        words.append(logits.argmax(dim=2))
    return torch.cat(words[1:], dim=1)


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_sums_to_one_and_differs_between_images_and_words(name, tokens):
    captioner = build(name).eval()
    weights = captioner.attention(features_for(captioner), tokens)
    assert weights.shape == (5, 7, NUM_PLACES)
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(5, 7))
    assert (weights[0] - weights[1]).abs().max() > 1e-3
    assert (weights[:, 0] - weights[:, -1]).abs().max() > 1e-5


@pytest.mark.parametrize("name", ATTENDING)
def test_the_order_of_places_moves_attention_and_changes_no_words(name, tokens):
    captioner = build(name).eval()
    features, order = features_for(captioner), torch.tensor([2, 0, 3, 1])
    moved = features[:, order]
    torch.testing.assert_close(captioner(moved, tokens), captioner(features, tokens), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        captioner.attention(moved, tokens), captioner.attention(features, tokens)[..., order], rtol=1e-4, atol=1e-5
    )


def test_unknown_architectures_and_wrong_arguments_are_refused_by_key(name):
    with pytest.raises(
        InputError,
        match=r"captioners\.x\.learning\.architecture\.name: got 'gpt': expected one of att2in, gru, lstm, soft",
    ):
        build(name, name="gpt")
    for argument, value in (("hidden_size", 1.5), ("dropout", 1.0), ("embedding_dropout", -0.1)):
        with pytest.raises(InputError, match=rf"captioners\.x\.learning\.architecture\.{argument}: got {value}"):
            build(name, **{argument: value})
    with pytest.raises(InputError, match=r"architecture\.tie_weights: got 'yes'"):
        build(name, tie_weights="yes")
    argument = next(one for one in ("num_layers", "attention_size", "image_enters") if one in ARCHITECTURES[name])
    with pytest.raises(InputError, match=rf"architecture\.{argument}: got 'twice'"):
        build(name, **{argument: "twice"})
    if argument != "num_layers":
        with pytest.raises(InputError, match=r"architecture\.embedding_size: got 0"):
            build(name, embedding_size=0)


def test_a_checkpoint_of_another_vocabulary_is_refused(captioner, name):
    checkpoint = checkpoint_of(captioner, name)
    checkpoint.require_vocabulary("a" * 64)
    with pytest.raises(InputError, match="vocabulary"):
        checkpoint.require_vocabulary("b" * 64)


def checkpoint_of(captioner, name):
    arguments = dict(ARCHITECTURES[name])
    return Checkpoint(
        kind="captioner",
        dataset="scenes",
        dataset_digest="d" * 64,
        classes=(),
        vocabulary_digest="a" * 64,
        architecture={"name": arguments.pop("name"), "arguments": arguments},
        sizes={"vocabulary_size": VOCABULARY_SIZE, "feature_size": FEATURE_SIZE},
        settings={},
        normalisation={},
        state_dict=captioner.state_dict(),
        metrics={},
    )
