import numpy as np
import pytest

from seesay.captioning.data.vocabulary import EOS, UNK, Vocabulary
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.training.reward import SampleReward, ValidationScore

WORDS = ("a", "red", "ball", "rolls", "dog", "runs", "on", "the", "grass")
VOCABULARY = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", *WORDS), 1, "1", "c" * 64)
REFERENCES = [
    [["a", "red", "ball", "rolls", "on", "the", "grass"], ["the", "ball", "rolls"]],
    [["a", "dog", "runs"], ["the", "dog", "runs", "on", "the", "grass"], ["a", "spaniel", "runs", "runs"]],
    [["a"]],
]


def ended(*words):
    return [*VOCABULARY.encode(words), EOS]


def reward_of(image, *words):
    return SampleReward(REFERENCES, VOCABULARY)(np.array([image]), [ended(*words)])[0]


def test_rewards_are_cider_d_with_eos_as_a_word():
    """Random captions, with repeated and with never seen n-grams, several an image."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 3, 60)
    captions = [list(generator.choice(WORDS, generator.integers(0, 9))) for _ in images]
    got = SampleReward(REFERENCES, VOCABULARY)(images, [ended(*caption) for caption in captions])
    references = CiderReferences([[[*caption, "<eos>"] for caption in of_image] for of_image in REFERENCES])
    for image, caption, value in zip(images, captions, got, strict=True):
        shown = [["x"]] * 3
        shown[image] = [*caption, "<eos>"]
        assert value == pytest.approx(references.score(shown)[image], abs=1e-12)


def test_a_caption_equal_to_the_only_reference_scores_its_ten():
    """ "a" and <eos> are in the references of all images and weigh nothing; "a <eos>" is all: 10 * 1 / 4."""
    assert reward_of(2, "a") == pytest.approx(2.5)


def test_a_caption_that_does_not_end_gets_less_than_the_same_that_does():
    reward = SampleReward(REFERENCES, VOCABULARY)
    words = ["the", "dog", "runs", "on", "the", "grass"]
    ends, does_not = reward(np.array([1, 1]), [ended(*words), VOCABULARY.encode(words)])
    assert does_not < ends


def test_a_word_outside_the_vocabulary_is_matched_by_nothing():
    reward = SampleReward([[["a", "spaniel"]], [["a", "poodle"]], [["the", "dog"]]], VOCABULARY)
    unknown, other = reward(np.array([0, 0]), [[*VOCABULARY.encode(["a"]), UNK, EOS], ended("a", "red")])
    assert unknown == other


def test_rewards_do_not_depend_on_what_else_is_scored():
    reward = SampleReward(REFERENCES, VOCABULARY)
    captions = [ended("a", "dog"), ended("the", "ball", "rolls"), ended("a")]
    images = np.array([1, 0, 2])
    one_by_one = [reward(images[i : i + 1], captions[i : i + 1])[0] for i in range(3)]
    assert reward(images, captions).tolist() == pytest.approx(one_by_one, abs=1e-15)


def test_the_val_score_is_the_mean_of_the_metric():
    said = [["a", "red", "ball", "rolls"], ["a", "dog"], ["the", "grass"]]
    score = ValidationScore(REFERENCES, VOCABULARY)([VOCABULARY.encode(words) for words in said])
    assert score == pytest.approx(CiderReferences(REFERENCES).score(said).mean())
