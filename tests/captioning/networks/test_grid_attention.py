import math

import pytest
import torch

from seesay.captioning.networks.attention import GridAttention


def grid_attention(*, dropout=0.0):
    torch.manual_seed(0)
    return GridAttention(6, value_size=5, attention_size=2, dropout=dropout)


def test_weights_are_softmax_of_the_scores_of_keys_and_query_together():
    grid = grid_attention()
    with torch.no_grad():
        grid.score.weight.copy_(torch.tensor([[2.0, -1.0]]))
    keys = torch.tensor([[[0.0, 1.0], [0.5, 0.0]]])  # one image, two places
    values = torch.tensor([[[1.0, 0.0], [0.0, 10.0]]])
    query = torch.tensor([[[0.5, -1.0], [0.0, 0.0]]])  # two beams
    seen, weights = grid.attend(query, keys, values)
    # Beam 0: 2 tanh 0.5 - tanh 0 against 2 tanh 1 - tanh -1; beam 1: -tanh 1 against 2 tanh 0.5.
    for beam, (first, second) in enumerate(
        ((2 * math.tanh(0.5), 3 * math.tanh(1.0)), (-math.tanh(1.0), 2 * math.tanh(0.5)))
    ):
        share = math.exp(first) / (math.exp(first) + math.exp(second))
        assert weights[0, beam].tolist() == pytest.approx([share, 1 - share])
        assert seen[0, beam].tolist() == pytest.approx([share, 10 * (1 - share)])


def test_dropout_takes_a_value_from_all_places_of_an_image():
    grid = grid_attention(dropout=0.5)
    features = torch.randn(50, 9, 6, generator=torch.Generator().manual_seed(1))
    _, kept = grid.eval().prepare(features)
    _, values = grid.train().prepare(features)
    alive = kept.gt(0).any(dim=1)  # before dropout; a value may be zero everywhere by its ReLU
    dropped = values.eq(0).all(dim=1) & alive
    assert 0.35 < dropped.sum() / alive.sum() < 0.65
    torch.testing.assert_close(values, torch.where(dropped.unsqueeze(1), 0.0, 2 * kept))


def test_looking_at_images_in_parts_without_gradients_changes_nothing(monkeypatch):
    grid = grid_attention()
    draw = torch.Generator().manual_seed(1)
    query, keys, values = (torch.randn(7, length, size, generator=draw) for length, size in ((3, 2), (9, 2), (9, 5)))
    whole = grid.attend(query, keys, values)
    parts = []
    scores = grid._scores
    monkeypatch.setattr(grid, "_scores", lambda query, keys: parts.append(len(keys)) or scores(query, keys))
    monkeypatch.setattr("seesay.captioning.networks.attention.MAX_SUMS_AT_ONCE", 2 * 3 * 9 * 2)  # two images' beams
    with torch.no_grad():
        found = grid.attend(query, keys, values)
    assert parts == [2, 2, 2, 1]
    for ours, expected in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, expected.detach())
