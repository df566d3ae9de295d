from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seesay.captioning.data.vocabulary import BOS, PAD, Vocabulary
from seesay.captioning.explain import (
    CaptionAttention,
    compute_attention,
    entropy_bits,
    explain_captions,
    read_attention,
    upsample,
    write_attention,
)
from seesay.compute import Compute
from seesay.core.errors import InputError

CPU = Compute(torch.device("cpu"), None, 1, True, False)


def at(place, num_places=49):
    weights = np.zeros((1, num_places))
    weights[0, place] = 1.0
    return weights


@pytest.mark.parametrize(
    ("place", "where"),  # of a 7x7 grid, in reading order
    [(0, (slice(0, 16), slice(0, 16))), (6, (slice(0, 16), slice(96, 112))), (42, (slice(96, 112), slice(0, 16)))],
)
def test_a_place_lights_its_own_part_of_the_image(place, where):
    map_ = upsample(at(place), 112)[0]
    inside = map_[where]
    assert inside.min() > 0
    assert inside.sum() > 0.5
    assert np.unravel_index(map_.argmax(), map_.shape)[0] in range(where[0].start, where[0].stop)
    assert np.unravel_index(map_.argmax(), map_.shape)[1] in range(where[1].start, where[1].stop)


def test_enlarging_keeps_each_words_sum():
    weights = np.random.default_rng(0).dirichlet(np.ones(49), size=5) * np.array([[1.0], [1.0], [0.5], [1.0], [2.0]])
    assert np.allclose(upsample(weights, 112).sum(axis=(1, 2)), weights.sum(axis=1), atol=1e-12)


def test_enlarging_is_bilinear_between_the_centres_of_places():
    # A 2x2 grid on 4 pixels: centres at 0.5 and 2.5. Along an edge a place weighs 1, 3/4, 1/4, 0 in the four pixels;
    # a place's weight is shared by the 2x2 = 4 pixels it covers.
    rows = upsample(np.array([[1.0, 0.0, 0.0, 0.0]]), 4)[0] * 4
    assert np.allclose(rows[0], [1, 0.75, 0.25, 0])
    assert np.allclose(rows[:, 0], [1, 0.75, 0.25, 0])
    assert np.isclose(rows[1, 1], 0.75 * 0.75)


def test_entropy_is_nothing_on_one_place_and_largest_over_all_alike():
    half = np.zeros((1, 49))
    half[0, :2] = 0.5
    assert entropy_bits(at(3))[0] == 0.0
    assert entropy_bits(half)[0] == 1.0  # two places alike are one bit
    assert np.isclose(entropy_bits(np.full((1, 49), 1 / 49))[0], np.log2(49))


class Echo(nn.Module):
    """Looks at the place that the token before has the number of."""

    looks_at = "grid"

    def inputs(self):
        return [(0, "grid")]

    def attention(self, features, tokens):
        self.shown = tokens.clone()
        return nn.functional.one_hot(tokens % features.shape[1], features.shape[1]).to(features.dtype)


def test_each_word_is_paired_with_what_was_looked_at_before_it_was_said():
    grid = np.zeros((3, 9, 2), np.float16)
    found = compute_attention(Echo(), grid.__getitem__, [2, 0], [[5, 7, 4], [6]], batch_size=8, device=CPU.device)
    # The word 5 is said after <bos>, 7 after 5, 4 after 7.
    assert found[0].argmax(axis=1).tolist() == [BOS, 5, 7]
    assert found[1].argmax(axis=1).tolist() == [BOS]


def test_captions_of_any_length_share_a_batch_and_an_empty_one_has_no_row():
    echo = Echo()
    found = compute_attention(
        echo, np.zeros((2, 9, 2), np.float16).__getitem__, [0, 1, 1], [[], [4, 5], [6]], batch_size=8, device=CPU.device
    )
    assert [len(one) for one in found] == [0, 2, 1]
    assert echo.shown.tolist() == [[BOS, PAD], [BOS, 4]]


class Unfinished(Echo):
    def attention(self, features, tokens):
        return super().attention(features, tokens) * 0.5


def test_attention_that_does_not_sum_to_one_is_refused():
    with pytest.raises(InputError, match="row 1 of the features: attention"):
        compute_attention(
            Unfinished(), np.zeros((2, 9, 2), np.float16).__getitem__, [1], [[4]], batch_size=8, device=CPU.device
        )


def test_attention_is_read_as_it_was_written_word_by_word(tmp_path):
    weights = {7: np.eye(9, dtype=np.float16)[:2], 3: np.zeros((0, 9), np.float16), 5: np.eye(9, dtype=np.float16)[4:5]}
    words = {7: ("a", "dog"), 3: (), 5: ("grass",)}
    write_attention(tmp_path / "x", CaptionAttention("grid", 0.875, words, weights))
    read = read_attention(tmp_path / "x")
    assert (read.looks_at, read.crop_share, dict(read.words)) == ("grid", 0.875, words)
    for image_id, rows in weights.items():
        assert np.array_equal(read.weights[image_id], rows)


def test_a_captioner_of_pooled_features_says_why_there_is_no_attention(tmp_path):
    write_attention(tmp_path / "x", CaptionAttention("pooled", 1.0, {}, {}))
    assert "pooled features" in (tmp_path / "x/attention.json").read_text()
    assert not (tmp_path / "x/weights.npy").exists()
    assert read_attention(tmp_path / "x").words == {}


def test_weights_that_do_not_fit_the_words_are_refused_by_name(tmp_path):
    write_attention(tmp_path / "x", CaptionAttention("grid", 1.0, {1: ("a",)}, {1: np.ones((2, 9), np.float16)}))
    with pytest.raises(InputError, match=r"weights\.npy: got \(2, 9\): expected 1 rows"):
        read_attention(tmp_path / "x")


class MadeUpFeatures:
    index = SimpleNamespace(transform={"image_size": 56, "resize_size": 64})

    def array(self, looks_at):
        assert looks_at == "grid"
        return np.zeros((2, 9, 2), np.float16)


class MadeUpRecords:
    name = "flickr8k"

    def rows(self, split):
        return [0, 1]


VOCABULARY = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "a", "dog"), 1, "ptb-1", "")


def explain(captioner, *captions):
    said = [{"image_id": 10 + number, "caption": caption} for number, caption in enumerate(captions)]
    return explain_captions(captioner, [MadeUpFeatures()], MadeUpRecords(), VOCABULARY, said, batch_size=4, compute=CPU)


def test_the_words_of_a_caption_have_a_row_each_under_its_image():
    attention = explain(Echo(), "a dog", "")
    assert dict(attention.words) == {10: ("a", "dog"), 11: ()}
    assert attention.weights[10].argmax(axis=1).tolist() == [BOS, VOCABULARY.encode(["a"])[0]]
    assert attention.weights[11].shape == (0, 9)
    assert attention.crop_share == 56 / 64


def test_captions_of_another_vocabulary_are_refused_with_the_word():
    with pytest.raises(InputError, match="image 11: 'cat' is not in the captioner's vocabulary"):
        explain(Echo(), "a dog", "a cat")


def test_a_captioner_of_pooled_features_has_no_attention():
    pooled = Echo()
    pooled.looks_at = "pooled"
    attention = explain(pooled, "a dog", "a dog")
    assert (attention.looks_at, dict(attention.words), dict(attention.weights)) == ("pooled", {}, {})
