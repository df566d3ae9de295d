import io

import pytest
import torch

from seesay.captioning.data.vocabulary import PAD
from seesay.captioning.networks.layers import Words


def words_of(*, embedding_size=3, hidden_size=3, dropout=0.0, embedding_dropout=0.0, tie_weights=True):
    torch.manual_seed(0)
    return Words(
        7,
        embedding_size=embedding_size,
        hidden_size=hidden_size,
        dropout=dropout,
        embedding_dropout=embedding_dropout,
        tie_weights=tie_weights,
    )


def test_a_tied_word_is_said_by_the_product_with_its_own_vector():
    words = words_of()
    with torch.no_grad():
        words.vectors.weight[5] = torch.tensor([1.0, 2.0, -1.0])
        words.bias[5] = 0.25
    # 1 x 0.5 + 2 x 1 - 1 x 3 + 0.25 = -0.25
    assert words.logits(torch.tensor([0.5, 1.0, 3.0]))[5].item() == pytest.approx(-0.25)


def test_tied_weights_are_saved_once_and_tied_again_when_loaded():
    words = words_of()
    assert sorted(words.state_dict()) == ["bias", "vectors.weight"]
    buffer = io.BytesIO()
    torch.save(words.state_dict(), buffer)
    buffer.seek(0)
    restored = words_of()
    with torch.no_grad():
        restored.vectors.weight.zero_()
    restored.load_state_dict(torch.load(buffer, weights_only=True))
    before = restored.logits(torch.ones(3))
    assert torch.equal(before, words.logits(torch.ones(3)))
    with torch.no_grad():
        restored.vectors.weight[4] += 1.0
    assert (restored.logits(torch.ones(3)) - before).tolist() == pytest.approx([0, 0, 0, 0, 3, 0, 0])
    assert sorted(words_of(tie_weights=False).state_dict()) == ["head.bias", "head.weight", "vectors.weight"]


def test_a_tied_vector_learns_as_an_input_and_as_an_output():
    words = words_of()
    words.embed(torch.tensor([4])).sum().backward()
    assert words.vectors.weight.grad[[4, 5]].tolist() == [[1.0] * 3, [0.0] * 3]
    words.logits(torch.full((3,), 2.0))[5].backward()
    assert words.vectors.weight.grad[[4, 5]].tolist() == [[1.0] * 3, [2.0] * 3]


def test_a_projection_comes_between_only_where_sizes_differ():
    assert words_of().projection is None
    words = words_of(hidden_size=5)
    assert words.projection.weight.shape == (3, 5)
    hidden = torch.randn(2, 4, 5)
    expected = hidden @ words.projection.weight.T @ words.vectors.weight.T
    torch.testing.assert_close(words.logits(hidden), expected)


@pytest.mark.parametrize("tie_weights", [False, True])
def test_padding_is_a_vector_of_zeros_that_no_input_teaches(tie_weights):
    words = words_of(tie_weights=tie_weights)
    vectors = words.embed(torch.tensor([[PAD, 4]]))
    assert vectors[0, 0].eq(0).all()
    vectors.sum().backward()
    assert words.vectors.weight.grad[PAD].eq(0).all()


def test_embedding_dropout_drops_whole_words_at_the_asked_rate():
    """The mean stays as it is."""
    words = words_of(embedding_dropout=0.25)
    tokens = torch.full((100, 100), 4)
    whole = words.embed(tokens) / words.vectors.weight[4]
    dropped = whole.eq(0)
    assert torch.equal(dropped.any(dim=2), dropped.all(dim=2))
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(whole[~dropped], torch.full_like(whole[~dropped], 4 / 3))
    assert torch.equal(words.eval().embed(tokens)[0, 0], words.vectors.weight[4])
