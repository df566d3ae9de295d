import numpy as np
import pytest

from seesay.captioning.metrics.baselines import Consensus, nearest_neighbour_captions, nearest_rows, standardise_rows
from seesay.captioning.metrics.cider import CiderReferences


def words(*captions: str) -> list[list[str]]:
    return [caption.split() for caption in captions]


def test_features_are_standardised_by_the_training_rows_alone():
    # Training rows have means (2, 5), deviations (1, 0): the row (5, 9) is (3, 0 for what never varies), of length one.
    pooled = np.array([[1, 5], [3, 5], [5, 9]], dtype=np.float16)
    assert standardise_rows(pooled, np.array([0, 1])).tolist() == [[-1, 0], [1, 0], [1, 0]]


def test_rows_in_the_mean_have_no_direction():
    pooled = np.array([[1.0], [3.0], [2.0]])
    assert standardise_rows(pooled, np.array([0, 1])).tolist() == [[-1], [1], [0]]


def test_the_nearest_come_first_and_the_earlier_of_equals():
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    assert nearest_rows(np.array([[1.0, 0.0], [0.0, 1.0]]), rows, limit=3).tolist() == [[1, 2, 3], [0, 3, 1]]


def test_many_images_are_compared_as_one_is():
    random = np.random.default_rng(0)
    queries, rows = random.normal(size=(1203, 8)), random.normal(size=(40, 8))
    found = nearest_rows(queries, rows, limit=4)
    for query in (0, 499, 500, 1202):
        assert found[query].tolist() == np.argsort(-(rows @ queries[query]), kind="stable")[:4].tolist()


def test_the_consensus_is_the_caption_that_agrees_with_the_others():
    captions = [words("a dog runs on grass", "blue sky"), words("a dog runs on sand"), words("the dog runs on grass")]
    consensus = Consensus([*captions, words("something else entirely"), words("a man")])
    assert consensus.caption([0, 1, 2]) == ["a", "dog", "runs", "on", "grass"]
    assert consensus.caption([3]) == ["something", "else", "entirely"]


def test_agreement_is_the_mean_cosine_of_weighted_ngrams_over_orders():
    # All pairs compared one by one, as the definition has it.
    random = np.random.default_rng(1)
    captions = [[list(random.choice(list("abcdef"), size=random.integers(1, 9))) for _ in range(3)] for _ in range(12)]
    consensus = Consensus(captions)
    for images in ([0, 5, 7], [3], [1, 2, 4, 6, 8]):
        chosen = [caption for image in images for caption in captions[image]]
        agreement = [
            sum(_cosine(captions, one, other) for place, other in enumerate(chosen) if place != own)
            for own, one in enumerate(chosen)
        ]
        assert consensus.caption(images) == chosen[int(np.argmax(np.round(agreement, 9)))]


def _cosine(captions, one, other) -> float:
    def vector(tokens, order):
        counts: dict[tuple[str, ...], float] = {}
        for start in range(len(tokens) - order + 1):
            ngram = tuple(tokens[start : start + order])
            counts[ngram] = counts.get(ngram, 0.0) + 1.0
        return {ngram: count * np.log(len(captions) / holding(ngram)) for ngram, count in counts.items()}

    def holding(ngram):
        return sum(
            any(tuple(c[s : s + len(ngram)]) == ngram for c in of_image for s in range(len(c))) for of_image in captions
        )

    total = 0.0
    for order in range(1, 5):
        ours, theirs = vector(one, order), vector(other, order)
        length = np.sqrt(sum(v**2 for v in ours.values()) * sum(v**2 for v in theirs.values()))
        total += sum(ours[n] * theirs.get(n, 0.0) for n in ours) / length if length else 0.0
    return total / 4


@pytest.fixture(scope="module")
def scenes():
    """Images in 6 directions; of each direction one caption in ten names another thing."""
    random = np.random.default_rng(0)
    things = ("dog", "cat", "horse", "bird", "cow", "fish")
    kinds = random.integers(0, 6, size=160)
    pooled = np.eye(6)[kinds] + 0.3 * random.normal(size=(160, 6))
    shown = np.where(random.random(160) < 0.3, random.integers(0, 6, size=160), kinds)
    captions = [words(f"a {things[kind]} stands here", f"one {things[kind]} alone") for kind in shown]
    return pooled, np.arange(100), np.arange(100, 130), np.arange(130, 160), captions


def test_the_number_of_neighbours_is_the_best_on_val(scenes, monkeypatch):
    _, train, val, test, captions = scenes
    borrowed = nearest_neighbour_captions(*scenes)
    judge = CiderReferences([captions[row] for row in val])
    best = judge.score(borrowed.val).mean()
    scores = {}
    for number in (1, 3, 10, 30, 90):
        monkeypatch.setattr("seesay.captioning.metrics.baselines.NUMBERS_OF_NEIGHBOURS", (number,))
        alone = nearest_neighbour_captions(*scenes)
        scores[number] = judge.score(alone.val).mean()
        assert alone.num_neighbours == number
        if number == borrowed.num_neighbours:
            assert alone == borrowed
    assert best == max(scores.values()) > scores[1]
    assert len(borrowed.test) == len(test)
    known = [caption for row in train for caption in captions[row]]
    assert all(caption in known for caption in borrowed.test)


def test_test_captions_are_never_looked_at(scenes):
    pooled, train, val, test, captions = scenes
    blind = [of_image if row not in test else words("nothing") for row, of_image in enumerate(captions)]
    assert nearest_neighbour_captions(pooled, train, val, test, blind) == nearest_neighbour_captions(*scenes)


def test_there_are_never_more_neighbours_than_training_images(scenes):
    pooled, _, val, test, captions = scenes
    assert nearest_neighbour_captions(pooled, np.arange(2), val, test, captions).num_neighbours <= 2
