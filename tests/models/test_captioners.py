import pytest
import torch

from seesay.errors import InputError
from seesay.models.captioners import CAPTIONERS, build_captioner, restore_captioner
from seesay.models.checkpoint import Checkpoint
from seesay.models.feature_scale import FeatureScale
from seesay.params.experiments import Architecture

ARCHITECTURES = {"lstm": {"embedding_size": 8, "hidden_size": 12, "dropout": 0.3}}
KEY = "captioners.x.learning.architecture"


def build(name, *, seed=0):
    architecture = Architecture(name=name, **ARCHITECTURES[name])
    return build_captioner(architecture, vocabulary_size=20, feature_size=6, seed=seed, key=KEY)


@pytest.fixture(params=sorted(CAPTIONERS))
def captioner(request):
    return build(request.param).eval()


@pytest.fixture
def features():
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokens():
    return torch.randint(4, 20, (5, 7), generator=torch.Generator().manual_seed(2))


def test_logits_are_finite_and_of_each_position_and_token(captioner, features, tokens):
    logits = captioner(features, tokens)
    assert logits.shape == (5, 7, 20)
    assert logits.isfinite().all()


def test_later_tokens_never_change_earlier_logits(captioner, features, tokens):
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 3) % 20
    before, after = captioner(features, tokens), captioner(features, changed)
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-4)


def test_the_image_changes_the_logits(captioner, features, tokens):
    assert not torch.allclose(captioner(features, tokens), captioner(features.flip(0), tokens), atol=1e-4)


def test_stepping_gives_the_logits_of_teacher_forcing(captioner, features, tokens):
    state, stepped = captioner.initial_state(features), []
    for position in range(tokens.shape[1]):
        logits, state = captioner.step(tokens[:, position], state)
        stepped.append(logits)
    torch.testing.assert_close(torch.stack(stepped, dim=1), captioner(features, tokens), rtol=1e-4, atol=1e-5)


def test_a_state_is_reordered_by_indexing_its_tensors(captioner, features, tokens):
    order = torch.tensor([3, 3, 0])
    _, state = captioner.step(tokens[:, 0], captioner.initial_state(features))
    expected, _ = captioner.step(tokens[:, 1], state)
    found, _ = captioner.step(tokens[order, 1], tuple(part[order] for part in state))
    torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-6)


def test_every_parameter_gets_a_gradient(captioner, features, tokens):
    captioner.train()(features, tokens).square().sum().backward()
    for name, parameter in captioner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_first_weights_depend_on_the_seed_alone():
    torch.manual_seed(99)
    first, again, other = build("lstm").state_dict(), build("lstm").state_dict(), build("lstm", seed=1).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_an_unknown_architecture_and_a_wrong_argument_are_refused_by_their_key():
    with pytest.raises(
        InputError, match=r"captioners\.x\.learning\.architecture\.name: got 'gpt': expected one of lstm"
    ):
        build_captioner(Architecture(name="gpt"), vocabulary_size=20, feature_size=6, seed=0, key=KEY)
    wrong = Architecture(name="lstm", embedding_size=0, hidden_size=12, dropout=0.1)
    with pytest.raises(InputError, match=r"architecture\.embedding_size: got 0"):
        build_captioner(wrong, vocabulary_size=20, feature_size=6, seed=0, key=KEY)


def test_a_restored_captioner_says_the_same(features, tokens):
    captioner = build("lstm").eval()
    captioner.scale.measure(features)
    restored = restore_captioner(checkpoint_of(captioner))
    assert not restored.training
    assert torch.equal(restored(features, tokens), captioner(features, tokens))


def test_a_checkpoint_of_another_vocabulary_is_refused():
    checkpoint = checkpoint_of(build("lstm"))
    checkpoint.require_vocabulary("a" * 64)
    with pytest.raises(InputError, match="vocabulary"):
        checkpoint.require_vocabulary("b" * 64)


def checkpoint_of(captioner):
    return Checkpoint(
        kind="captioner",
        dataset="scenes",
        dataset_digest="d" * 64,
        classes=(),
        vocabulary_digest="a" * 64,
        architecture={"name": "lstm", "arguments": ARCHITECTURES["lstm"]},
        sizes={"vocabulary_size": 20, "feature_size": 6},
        settings={},
        normalisation={},
        state_dict=captioner.state_dict(),
        metrics={},
    )


def test_scaled_features_have_mean_zero_and_variance_one():
    features = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    scale = FeatureScale(2)
    assert torch.equal(scale(features), features), "before it is told of any features it does nothing"
    scale.measure(features.half())
    assert scale(features).tolist() == [[-1.0, -1.0], [1.0, 1.0]]


def test_a_feature_that_never_moves_stays_finite():
    scale = FeatureScale(2)
    scale.measure(torch.tensor([[5.0, 0.0], [5.0, 1.0]]))
    assert scale(torch.tensor([[5.0, 0.0]])).isfinite().all()
