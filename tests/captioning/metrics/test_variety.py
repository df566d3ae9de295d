"""Diversity, novelty, lengths and the embedding's cosine."""

import numpy as np
import pytest

from seesay.captioning.metrics.diversity import diversity, lengths, novelty, training_captions
from seesay.captioning.metrics.embedding import CaptionEmbedding, EmbeddedReferences, other_images


def words(text: str) -> list[str]:
    return text.split()


def test_distinct_ngrams_by_hand() -> None:
    # unigrams a dog a dog a cat: 3 of 6; bigrams "a dog" "dog a" "a dog" and "a cat": 3 of 4
    found = diversity([words("a dog a dog"), words("a cat"), []])
    assert found == {"distinct1": 3 / 6, "distinct2": 3 / 4, "vocabulary_size": 3.0}


def test_captions_without_tokens_have_no_variety_and_break_nothing() -> None:
    assert diversity([[], []]) == {"distinct1": 0.0, "distinct2": 0.0, "vocabulary_size": 0.0}


def test_novelty_counts_whole_captions_and_known_words() -> None:
    training = training_captions([words("a dog"), words("a cat sits")])
    # a, dog of a, dog, cat, sits; "a dog" is known, the others are not
    found = novelty([words("a dog"), words("a a bird"), words("dog a")], training)
    assert found == {"share_vocabulary": 2 / 4, "share_novel": 2 / 3}


def test_lengths_by_hand() -> None:
    # captions of 2 and 4 tokens: mean 3, deviation 1; closest references 3 (of 1 and 3 the shorter: 1) and 6
    references = [[words("a b c"), words("a")], [words("a b c d e f")]]
    found = lengths([words("a b"), words("a b c d")], references)
    assert found == {"mean_length": 3.0, "std_length": 1.0, "length_ratio": pytest.approx(6 / 7)}


def test_captions_of_the_same_things_lie_closer_than_those_of_other_images() -> None:
    draw = np.random.default_rng(0)
    topics = [words("dog grass run ball park"), words("man wave surf sea board"), words("cake table plate eat food")]
    said = [[["a", *draw.choice(topics[row % 3], 3)] for _ in range(3)] for row in range(60)]
    embedding = CaptionEmbedding([caption for of_image in said[:30] for caption in of_image], seed=0)
    references = EmbeddedReferences(embedding, [of_image[1:] for of_image in said[30:]])
    found = references.cosines([of_image[0] for of_image in said[30:]], seed=0)
    assert found["embedding_cosine"] > found["embedding_cosine_random"] + 0.1
    constant = references.cosines([["a", "dog"]] * 30, seed=0)
    assert constant["embedding_cosine"] == pytest.approx(constant["embedding_cosine_random"])  # looks at no image
    again = EmbeddedReferences(CaptionEmbedding([c for s in said[:30] for c in s], seed=0), [s[1:] for s in said[30:]])
    assert found == again.cosines([of_image[0] for of_image in said[30:]], seed=0)


def test_unknown_words_have_no_direction() -> None:
    embedding = CaptionEmbedding([words("a dog runs"), words("a cat sits"), words("the sky")], seed=0)
    np.testing.assert_allclose(embedding.embed([["zebra"], []]), 0.0)
    np.testing.assert_allclose(np.linalg.norm(embedding.embed([words("a dog")]), axis=1), 1.0)


@pytest.mark.parametrize("num_images", [2, 3, 50])
def test_every_image_is_paired_with_another_one(num_images: int) -> None:
    others = other_images(num_images, seed=3)
    assert sorted(others) == list(range(num_images))
    assert not np.any(others == np.arange(num_images))
