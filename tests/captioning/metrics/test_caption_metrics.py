"""BLEU, ROUGE-L and CIDEr-D: hand-worked values, properties, and the published golden scores where they lie."""

import json
import math
import random
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesay.captioning.data.tokenizer import tokenize, tokenize_all, tokenize_references
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.ngrams import bleu_scores, bleu_statistics, image_rouge_l

GOLDEN = Path(__file__).resolve().parents[4] / "shared/golden"

caption = st.lists(st.sampled_from("a b c d e f".split()), min_size=1, max_size=9)  # noqa: SIM905
corpus = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=6)


def words(text: str) -> list[str]:
    return text.split()


def image_bleu(predictions: list[list[str]], references: list[list[list[str]]]) -> np.ndarray:
    """BLEU-1..4 of each image alone."""
    return bleu_scores(bleu_statistics(predictions, references))


def corpus_bleu(predictions: list[list[str]], references: list[list[list[str]]]) -> np.ndarray:
    """BLEU-1..4 of all images together."""
    return bleu_scores(bleu_statistics(predictions, references).sum(axis=0)[None])[0]


def image_cider_d(predictions: list[list[str]], references: list[list[list[str]]]) -> np.ndarray:
    return CiderReferences(references).score(predictions)


def test_bleu_counts_clipped_ngrams_over_the_corpus() -> None:
    # image 1: "the the the cat": the (clipped to 2), cat -> 3 of 4 unigrams; "the cat" -> 1 of 3 bigrams
    # image 2: "a dog": 2 of 2, 1 of 1. Corpus: p1 5/6, p2 2/4; lengths 4+2 against the closest 4+3
    predictions = [words("the the the cat"), words("a dog")]
    references = [[words("the cat on the mat"), words("the cat the end")], [words("a dog runs")]]
    penalty = math.exp(1 - 7 / 6)
    bleu = corpus_bleu(predictions, references)
    assert bleu[0] == pytest.approx(5 / 6 * penalty, abs=1e-8)
    assert bleu[1] == pytest.approx(math.sqrt(5 / 6 * 2 / 4) * penalty, abs=1e-8)
    assert bleu[2] == pytest.approx(0.0, abs=1e-4)


def test_bleu_takes_the_shorter_of_two_equally_close_references() -> None:
    # lengths 2 and 4 are one away from 3: with 2 there is no penalty
    assert corpus_bleu([words("a b c")], [[words("a b"), words("a b c d")]])[0] == pytest.approx(1.0, abs=1e-8)


def test_rouge_l_takes_best_precision_and_best_recall() -> None:
    # "a b c d": common subsequences 2 of 2 ("a c"), 3 of 6: precision 3/4, recall 2/2
    predictions, references = [words("a b c d")], [[words("a c"), words("a x b y d z")]]
    expected = (1 + 1.44) * 0.75 * 1.0 / (1.0 + 1.44 * 0.75)
    assert image_rouge_l(predictions, references)[0] == pytest.approx(expected, abs=1e-15)


@given(caption, caption)
def test_rouge_l_agrees_with_the_textbook_table(first: list[str], second: list[str]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if one == other else max(table[i, j + 1], table[i + 1, j])
    precision, recall = table[-1, -1] / len(first), table[-1, -1] / len(second)
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision) if precision else 0.0
    assert image_rouge_l([first], [[second]])[0] == pytest.approx(expected, abs=1e-15)


def test_cider_d_of_one_word_captions_by_hand() -> None:
    # Two images, "cat" in one's references, "dog" in the other's: idf log 2 each. A right unigram has cosine 1, a wrong
    # one 0; orders 2 to 4 have no n-grams. Mean over orders 1/4, times 10.
    references = [[["cat"]], [["dog"], ["dog"]]]
    np.testing.assert_allclose(image_cider_d([["cat"], ["dog"]], references), [2.5, 2.5], rtol=1e-15)
    np.testing.assert_allclose(image_cider_d([["cat"], ["cat"]], references), [2.5, 0.0], rtol=1e-15)


def test_cider_d_ignores_what_every_image_says_and_punishes_length() -> None:
    # "a" is in all references: weight 0. "a cat" against "a cat": unigram "cat" and the bigram agree: (1 + 1) / 4 * 10.
    references = [[words("a cat")], [words("a dog")]]
    assert image_cider_d([words("a cat"), words("a dog")], references)[0] == pytest.approx(5.0)
    # One token longer: difference 1, penalty exp(-1/72). Unigrams: "cat" against {"cat", unknown "sits"}, cosine
    # 1/sqrt(2); bigrams the same.
    longer = image_cider_d([words("a cat sits"), words("a dog")], references)[0]
    assert longer == pytest.approx(10 / 4 * 2 / math.sqrt(2) * math.exp(-1 / 72))


def test_cider_d_clips_repeated_words() -> None:
    references = [[words("cat dog")], [words("cow")]]
    # counts (3, 1) against (1, 1), weights times log 2: min is (1, 1), norms sqrt(10) and sqrt(2); the bigram "cat dog"
    # has cosine 1/sqrt(5) beside "cat cat" twice; length differs by 2
    value = image_cider_d([words("cat cat cat dog"), words("cow")], references)[0]
    assert value == pytest.approx(10 / 4 * (2 / math.sqrt(20) + 1 / math.sqrt(5)) * math.exp(-4 / 72))


@given(corpus)
def test_repeating_a_reference_is_perfect(pairs: list[tuple[list[str], list[list[str]]]]) -> None:
    references = [of_image for _, of_image in pairs]
    predictions = [of_image[0] for of_image in references]
    assert corpus_bleu(predictions, references)[0] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(image_rouge_l(predictions, references), 1.0)


@given(corpus, st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_the_order_of_images_or_references(pairs: list, random) -> None:  # type: ignore[type-arg,no-untyped-def]
    shuffled = [(tokens, random.sample(of_image, len(of_image))) for tokens, of_image in pairs]
    order = random.sample(range(len(pairs)), len(pairs))
    predictions, references = zip(*pairs, strict=True)
    others, other_references = zip(*(shuffled[i] for i in order), strict=True)
    np.testing.assert_allclose(corpus_bleu(predictions, references), corpus_bleu(others, other_references))
    for metric in (image_rouge_l, image_cider_d):
        values, other_values = metric(predictions, references), metric(others, other_references)
        np.testing.assert_allclose(values[order], other_values, atol=1e-12)


@given(corpus)
def test_scores_stay_in_their_range(pairs: list) -> None:  # type: ignore[type-arg]
    predictions, references = zip(*pairs, strict=True)
    for values, top in ((image_bleu(predictions, references), 1), (image_rouge_l(predictions, references), 1)):
        assert np.all((values >= 0) & (values <= top + 1e-9))
    assert np.all((image_cider_d(predictions, references) >= 0) & (image_cider_d(predictions, references) <= 10 + 1e-9))


@given(corpus, caption)
def test_a_constant_scores_like_the_same_caption_for_every_image(pairs: list, constant: list[str]) -> None:  # type: ignore[type-arg]
    cider = CiderReferences([of_image for _, of_image in pairs])
    np.testing.assert_allclose(cider.score_constant(constant), cider.score([constant] * len(pairs)), atol=1e-12)


def test_an_empty_prediction_scores_nothing_and_breaks_nothing() -> None:
    predictions, references = [[], words("a dog")], [[words("a cat")], [words("a dog")]]
    assert image_rouge_l(predictions, references)[0] == 0.0
    assert image_cider_d(predictions, references)[0] == 0.0
    assert np.all(np.isfinite(image_bleu(predictions, references)))
    assert corpus_bleu([[]], [[words("a cat")]])[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no ../shared/golden beside the repository")
def test_golden_scores_of_the_reference_scorer_are_met() -> None:
    references: dict[int, list[list[str]]] = defaultdict(list)
    for annotation in json.loads((GOLDEN / "captions_karpathy_test.json").read_text(encoding="utf-8"))["annotations"]:
        references[annotation["image_id"]].append(tokenize(annotation["caption"]))
    results = json.loads((GOLDEN / "results_magic.json").read_text(encoding="utf-8"))
    predictions = [tokenize(result["caption"]) for result in results]
    ordered = [references[result["image_id"]] for result in results]
    np.testing.assert_allclose(corpus_bleu(predictions, ordered), [0.56820, 0.35764, 0.21417, 0.12878], atol=5e-6)
    assert image_rouge_l(predictions, ordered).mean() == pytest.approx(0.39879, abs=5e-6)
    assert image_cider_d(predictions, ordered).mean() == pytest.approx(0.49289, abs=5e-6)


# Scored by pycocoevalcap 1.2 with its Java tokenizer: caption, references, BLEU-1..4, ROUGE-L, CIDEr-D of each image.
SCORED = [
    (
        "A dog runs along the beach.",
        ["A brown dog runs on the beach.", "The dog is running along the sea.", "A dog plays near the water."],
        [0.9999999996666668, 0.8944271906868665, 5.848035474248968e-06, 1.6068568372398655e-08],
        0.7587064676616916,
        1.9133960122974738,
    ),
    (
        "A boy and a girl on a bench",
        ["Two children sit on a red bench.", "Two kids (a boy & a girl) are sitting outside!"],
        [0.7499999999062501, 0.5669467094379106, 3.7697372050997583e-06, 1.0173978271478341e-08],
        0.45522388059701485,
        1.0566463201088216,
    ),
    (
        "the man's box box box",
        ["A man can't lift the heavy box...", "a man | a box", "The man's box is heavy."],
        [0.6666666664444446, 0.6324555318123166, 0.5848035474248966, 0.5081327479492447],
        0.6666666666666666,
        1.983605846307711,
    ),
    ("", ["Snow-covered mountains at 5:30 p.m. today", "Mountains under snow"], [0.0] * 4, 0.0, 0.0),
]
SCORED_CORPUS = [0.7238699343563806, 0.6207133478438617, 0.3679184443749162, 0.25299278557492916]


def test_images_and_corpus_score_what_pycocoevalcap_gives() -> None:
    predictions = [tokenize(text) for text, *_ in SCORED]
    references = [[tokenize(text) for text in texts] for _, texts, *_ in SCORED]
    np.testing.assert_allclose(image_bleu(predictions, references), [bleu for *_, bleu, _, _ in SCORED], atol=1e-9)
    np.testing.assert_allclose(image_rouge_l(predictions, references), [rouge for *_, rouge, _ in SCORED], atol=1e-9)
    np.testing.assert_allclose(image_cider_d(predictions, references), [cider for *_, cider in SCORED], atol=1e-9)
    np.testing.assert_allclose(corpus_bleu(predictions, references), SCORED_CORPUS, atol=1e-9)


def odd_captions(count: int) -> list[str]:
    """Captions of plain and odd words, some of them twice, some empty."""
    draw = random.Random(7)
    words = [
        "A",
        "dog",
        "runs.",
        "the",
        "man's",
        "can't",
        "(red)",
        "ball,",
        "T-shirt",
        "5",
        "10:30",
        "St.",
        "&",
        "|",
        "[x]",
        "wi-fi/tv",
        "!",
        "grass",
        "on",
        "in",
        "café",
        "☺",
    ]
    return [" ".join(draw.choices(words, k=draw.randint(0, 12))) for _ in range(count)]


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java")
def test_everything_equals_pycocoevalcap_on_odd_captions() -> None:
    pytest.importorskip("pycocoevalcap", reason="pip install pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = odd_captions(400)
    said = {
        number: [f"grass {text}" for text in texts[4 * number + 1 : 4 * number + 2 + number % 3]]
        for number in range(100)
    }
    theirs = PTBTokenizer().tokenize({n: [{"caption": text} for text in of_image] for n, of_image in said.items()})
    results = PTBTokenizer().tokenize({n: [{"caption": texts[4 * n]}] for n in said})
    references = tokenize_references(list(said.values()))
    predictions = tokenize_all([texts[4 * number] for number in said])
    assert [[" ".join(tokens) for tokens in of_image] for of_image in references] == list(theirs.values())
    assert [[" ".join(tokens)] for tokens in predictions] == list(results.values())
    bleu, image_bleus = Bleu(4).compute_score(theirs, results, verbose=0)
    np.testing.assert_allclose(corpus_bleu(predictions, references), bleu, atol=1e-9)
    np.testing.assert_allclose(image_bleu(predictions, references), np.transpose(image_bleus), atol=1e-9)
    for ours, scorer in ((image_rouge_l, Rouge()), (image_cider_d, Cider())):
        of_corpus, of_images = scorer.compute_score(theirs, results)
        np.testing.assert_allclose(ours(predictions, references), of_images, atol=1e-9)
        assert ours(predictions, references).mean() == pytest.approx(of_corpus, abs=1e-9)


@given(corpus)
def test_sums_over_any_images_give_their_bleu(pairs: list) -> None:  # type: ignore[type-arg]
    predictions, references = zip(*pairs, strict=True)
    some = slice(0, None, 2)
    statistics = bleu_statistics(predictions, references)[some].sum(axis=0)
    np.testing.assert_allclose(bleu_scores(statistics[None])[0], corpus_bleu(predictions[some], references[some]))


def test_agreement_is_the_mean_score_against_the_other_candidates():
    """Worked out by hand. Three images in train, so log 3 = 1.0986 for an n-gram of one image and of none.

    "a" is in two images: log(3 / 2) = 0.4055. Candidates: "a dog", "a dog", "a cat runs" without an n-gram in common
    but "a". The first two are alike: both orders that they have give a cosine of 1, the other two 0: 10 x 2 / 4 = 5.
    "a dog" against "a cat runs": unigrams 0.4055 ** 2 / (norm of (0.4055, 1.0986) x norm of (0.4055, 1.0986, 1.0986)).
    """
    references = CiderReferences([[["a", "dog"]], [["a", "bird"]], [["the", "cat"]]])
    first, second, third = references.agreement([[["a", "dog"], ["a", "dog"], ["a", "cat", "runs"]]])[0]
    a, rare = math.log(3 / 2), math.log(3)
    cosine = a**2 / (math.hypot(a, rare) * math.hypot(a, rare, rare))
    unlike = 10 * cosine / 4 * math.exp(-1 / 72)  # one bigram more
    assert first == second == pytest.approx((5.0 + unlike) / 2)
    assert third == pytest.approx(unlike)


def test_agreement_of_two_captions_is_the_score_of_one_against_the_other():
    """Document frequencies are those of the two: a list each, so that they are references of two images too."""
    captions = [["a", "dog", "runs", "on", "grass"], ["a", "dog", "on", "a", "lawn"]]
    others = [["two", "birds", "fly", "over", "grass"], ["a", "red", "car"]]
    references = CiderReferences([[captions[1]], [others[1]]])
    expected = references.score([captions[0], others[0]])
    found = references.agreement([[captions[0], captions[1]], [others[0], others[1]], [["alone"]], []])
    assert [found[0][0], found[1][0]] == pytest.approx(expected.tolist())
    assert [len(one) for one in found] == [2, 2, 1, 0]
    assert found[2][0] == 0.0
