"""Every way of decoding, on tables of which all is known and on a small captioner."""

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from seesay.captioning.data.vocabulary import BOS, EOS, NEVER_EMITTED, PAD, UNK
from seesay.captioning.decoding import beam as searching
from seesay.captioning.decoding import sampling
from seesay.captioning.decoding import sampling as greedy_module
from seesay.captioning.decoding.decode import decode, greedy_search, greedy_tokens, sample_captions
from seesay.captioning.decoding.hypotheses import Decoded, allowed_log_probabilities, best_first
from seesay.captioning.networks.base import Captioner, Memory, State
from seesay.captioning.networks.recurrent import LSTMCaptioner
from seesay.captioning.networks.transformer import TransformerCaptioner
from seesay.params.captioning import Beam, Decoding, DiverseBeam, Greedy, Nucleus

A, B, C = 4, 5, 6


def beam_search(*arguments, **settings):
    """The best caption of each image."""
    return [candidates[0] for candidates in searching.beam_search(*arguments, **settings)]


class NextWordTable(Captioner):
    """Knows one table of next-token logits per image; `features` (N, 1) name the image's table."""

    def __init__(self, tables: Tensor) -> None:
        super().__init__()
        self.vocabulary_size = tables.shape[-1]
        self.tables = tables
        self.images_stepped: list[int] = []
        self.eval()

    def memory(self, features: Tensor) -> Memory:
        return (features[:, 0].long(),)

    def initial_state(self, memory: Memory) -> State:
        return (torch.zeros(len(memory[0]), 1, 1),)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        assert tokens.shape == state[0].shape[:2]
        assert len(tokens) == len(memory[0]), "a memory for each image, not for each beam"
        self.images_stepped.append(len(tokens))
        return self.tables[memory[0].unsqueeze(1), tokens], (state[0] + 1,)


def table_of(probabilities: dict[int, dict[int, float]], *, vocabulary_size: int = 7) -> Tensor:
    table = torch.full((1, vocabulary_size, vocabulary_size), -torch.inf)
    table[0, :, EOS] = 0.0  # what nothing is said about ends
    for before, following in probabilities.items():
        table[0, before] = -torch.inf
        for token, probability in following.items():
            table[0, before, token] = math.log(probability)
    return table


IMAGE = torch.zeros(1, 1)


def beam(**changes):
    settings = {"beam_size": 4, "length_penalty": 0.7, "max_length": 12, "batch_size": 16}
    return Beam(method="beam", **{**settings, **changes})


EVERY_WAY: tuple[Decoding, ...] = (
    Greedy(method="greedy", max_length=12, batch_size=16),
    beam(),
    DiverseBeam(
        method="diverse_beam",
        beam_size=6,
        num_groups=3,
        diversity_penalty=0.8,
        length_penalty=0.7,
        max_length=12,
        batch_size=16,
    ),
    Nucleus(method="nucleus", top_p=0.9, temperature=0.8, num_samples=5, max_length=12, batch_size=16),
)


def ids_of(captions: list[Decoded]) -> list[tuple[int, ...]]:
    return [caption.token_ids for caption in captions]


@pytest.fixture(scope="module", params=["lstm", "transformer"])
def captioner(request) -> Captioner:
    torch.manual_seed(3)
    captioner: LSTMCaptioner | TransformerCaptioner
    if request.param == "lstm":
        captioner = LSTMCaptioner(30, 12, image_enters="initial_state", embedding_size=16, hidden_size=24)
        opinion, end = 12, 1.0
    else:
        captioner = TransformerCaptioner(30, 12, hidden_size=24, num_layers=2, num_heads=3)
        opinion, end = 30, 3.0
    assert captioner.words.head is not None
    with torch.no_grad():  # opinionated, so that captions differ between images and in length
        captioner.words.head.weight.mul_(opinion)
        captioner.words.head.bias[EOS] += end
    return captioner.eval()


@pytest.fixture(scope="module")
def features(captioner) -> Tensor:
    shape = (16, 12) if captioner.looks_at == "pooled" else (16, 4, 12)
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_greedy_takes_the_likeliest_token_at_each_position():
    captioner = NextWordTable(table_of({BOS: {A: 0.6, B: 0.4}, A: {EOS: 0.4, A: 0.3, B: 0.3}, B: {EOS: 0.9, A: 0.1}}))
    (caption,) = greedy_search(captioner, IMAGE, max_length=5)
    assert caption.token_ids == (A,)
    assert caption.log_probability == pytest.approx(math.log(0.6 * 0.4))


def test_a_beam_of_two_finds_what_greedy_misses():
    captioner = NextWordTable(table_of({BOS: {A: 0.6, B: 0.4}, A: {EOS: 0.4, A: 0.3, B: 0.3}, B: {EOS: 0.9, A: 0.1}}))
    (caption,) = beam_search(captioner, IMAGE, beam_size=2, length_penalty=0.0, max_length=5)
    assert caption.token_ids == (B,)
    assert caption.log_probability == pytest.approx(math.log(0.4 * 0.9))


@pytest.mark.parametrize(("length_penalty", "words"), [(0.0, (A,)), (1.0, (B, C))])
def test_the_length_penalty_divides_by_the_number_of_tokens_to_its_power(length_penalty, words):
    # "a <eos>": 0.5 x 0.8 = 0.4, two tokens; "b c <eos>": 0.5 x 0.9 x 0.8 = 0.36, three tokens.
    # ln 0.4 = -0.916 > ln 0.36 = -1.022, but -0.916 / 2 = -0.458 < -1.022 / 3 = -0.341.
    captioner = NextWordTable(
        table_of({BOS: {A: 0.5, B: 0.5}, A: {EOS: 0.8, A: 0.2}, B: {C: 0.9, B: 0.1}, C: {EOS: 0.8, C: 0.2}})
    )
    (caption,) = beam_search(captioner, IMAGE, beam_size=3, length_penalty=length_penalty, max_length=6)
    assert caption.token_ids == words


def test_a_finished_caption_is_kept_while_the_search_goes_on():
    # The best caption, "<eos>" at once (0.5), is finished at the first step; the beam that goes on ends at 0.5 x 0.9.
    captioner = NextWordTable(table_of({BOS: {EOS: 0.5, A: 0.5}, A: {EOS: 0.9, A: 0.1}}))
    (caption,) = beam_search(captioner, IMAGE, beam_size=2, length_penalty=0.0, max_length=4)
    assert (caption.token_ids, caption.log_probability) == ((), pytest.approx(math.log(0.5)))


def test_a_caption_stops_at_the_longest_length_without_an_end():
    captioner = NextWordTable(table_of({BOS: {A: 1.0}, A: {A: 0.9, EOS: 0.1}}))
    (greedy,) = greedy_search(captioner, IMAGE, max_length=3)
    (beam,) = beam_search(captioner, IMAGE, beam_size=1, length_penalty=0.7, max_length=3)
    for caption in (greedy, beam):
        assert caption.token_ids == (A, A, A)
        assert caption.log_probability == pytest.approx(math.log(0.9 * 0.9))
    assert beam.score == pytest.approx(math.log(0.9 * 0.9) / 3**0.7)


@pytest.mark.parametrize("decoding", EVERY_WAY, ids=lambda one: one.method)
def test_special_tokens_are_never_emitted_however_likely(decoding):
    tables = torch.zeros(1, 7, 7)
    tables[:, :, list(NEVER_EMITTED)] = 50.0
    for caption in decode(NextWordTable(tables), IMAGE, decoding, seed=0)[0]:
        assert not {PAD, BOS, EOS, UNK} & set(caption.token_ids)
        assert math.isfinite(caption.log_probability)


def test_log_probabilities_are_of_the_allowed_tokens_only():
    # Four allowed tokens of equal logits: a quarter each, whatever the forbidden ones' logits.
    logits = torch.tensor([[9.0, 9.0, 0.0, 9.0, 0.0, 0.0, 0.0]])
    assert allowed_log_probabilities(logits).exp()[0].tolist() == pytest.approx([0, 0, 0.25, 0, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.5])
def test_a_wide_beam_finds_the_best_of_all_captions(length_penalty):
    max_length, vocabulary_size = 4, 7
    tables = torch.randn(5, vocabulary_size, vocabulary_size, generator=torch.Generator().manual_seed(1)) * 2
    captioner = NextWordTable(tables)
    images = torch.arange(5.0).unsqueeze(1)
    found = beam_search(captioner, images, beam_size=400, length_penalty=length_penalty, max_length=max_length)
    for image, caption in enumerate(found):
        log_probabilities = allowed_log_probabilities(tables[image])
        best = max(_all_captions(log_probabilities, max_length), key=lambda each: each[2] / each[1] ** length_penalty)
        assert caption.token_ids == best[0]
        assert caption.log_probability == pytest.approx(best[2], abs=1e-5)


@torch.no_grad()
def test_a_wide_beam_of_a_transformer_finds_the_best_of_all_captions():
    torch.manual_seed(5)
    captioner = TransformerCaptioner(7, 12, hidden_size=24, num_layers=2, num_heads=3).eval()
    captioner.words.head.weight.mul_(40)
    features, max_length = 3 * torch.randn(5, 4, 12), 4
    captions = [tokens for tokens, _, _ in _all_captions(torch.zeros(7, 7), max_length)]
    inputs, targets = (torch.full((len(captions), max_length + 1), PAD) for _ in range(2))
    for row, words in enumerate(captions):
        inputs[row, : len(words) + 1] = torch.tensor([BOS, *words])
        targets[row, : len(words) + 1] = torch.tensor([*words, EOS if len(words) < max_length else PAD])
    found = beam_search(captioner, features, beam_size=400, length_penalty=0.0, max_length=max_length)
    for image, caption in enumerate(found):
        logits = captioner(features[[image]].expand(len(captions), -1, -1), inputs)  # whole captions, without a cache
        each = allowed_log_probabilities(logits).gather(2, targets.unsqueeze(2)).squeeze(2)
        totals = each.masked_fill(targets == PAD, 0.0).sum(dim=1)
        assert caption.token_ids == captions[int(totals.argmax())]
        assert caption.log_probability == pytest.approx(float(totals.max()), abs=1e-4)


def _all_captions(log_probabilities: Tensor, max_length: int):
    """(words, number of tokens, log-probability) of every caption that ends, or is as long as can be."""
    for num_words in range(max_length + 1):
        for words in itertools.product((A, B, C), repeat=num_words):
            tokens = words if num_words == max_length else (*words, EOS)
            pairs = zip((BOS, *tokens), tokens, strict=False)
            yield words, len(tokens), sum(float(log_probabilities[before, token]) for before, token in pairs)


def test_a_beam_of_one_is_greedy(captioner, features):
    greedy = greedy_search(captioner, features, max_length=12)
    beam = beam_search(captioner, features, beam_size=1, length_penalty=0.7, max_length=12)
    assert [caption.token_ids for caption in beam] == [caption.token_ids for caption in greedy]
    assert [caption.log_probability for caption in beam] == pytest.approx([c.log_probability for c in greedy], abs=1e-4)
    assert len({len(caption.token_ids) for caption in greedy}) > 3, "a test of one length would test little"


@pytest.mark.parametrize("batch_size", [1, 5, 16])
@pytest.mark.parametrize("decoding", EVERY_WAY, ids=lambda one: one.method)
def test_images_are_captioned_together_as_they_are_alone(captioner, features, decoding, batch_size):
    expected = decode(captioner, features, decoding, seed=3)
    found = decode(captioner, features, decoding.model_copy(update={"batch_size": batch_size}), seed=3)
    assert [ids_of(of_image) for of_image in found] == [ids_of(of_image) for of_image in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for field in ("log_probability", "score"):
            values = [getattr(caption, field) for caption in theirs]
            assert [getattr(caption, field) for caption in ours] == pytest.approx(values, abs=1e-4)


@pytest.mark.parametrize("decoding", EVERY_WAY, ids=lambda one: one.method)
@pytest.mark.parametrize("share", [0.0, 2.0])
def test_when_finished_images_leave_the_batch_changes_no_caption(captioner, features, decoding, share, monkeypatch):
    expected = decode(captioner, features, decoding, seed=0)
    for module in (searching, greedy_module, sampling):
        monkeypatch.setattr(module, "COMPACT_BELOW", share)  # never, and at each step
    found = decode(captioner, features, decoding, seed=0)
    assert [ids_of(of_image) for of_image in found] == [ids_of(of_image) for of_image in expected]


@pytest.mark.parametrize("decoding", EVERY_WAY, ids=lambda one: one.method)
def test_candidates_are_ranked_and_no_two_are_alike(captioner, features, decoding):
    for of_image in decode(captioner, features, decoding, seed=0):
        scores = [caption.score for caption in of_image]
        assert scores == sorted(scores, reverse=True)
        assert len(set(ids_of(of_image))) == len(of_image) <= 6
        assert all(len(caption.token_ids) <= 12 for caption in of_image)


def test_the_log_probability_is_what_teacher_forcing_gives(captioner, features):
    for image, caption in enumerate(beam_search(captioner, features, beam_size=4, length_penalty=0.7, max_length=12)):
        tokens = [*caption.token_ids, EOS][:12]
        logits = captioner(features[image : image + 1], torch.tensor([[BOS, *tokens[:-1]]]))[0]
        expected = allowed_log_probabilities(logits.detach())[range(len(tokens)), tokens].sum()
        assert caption.log_probability == pytest.approx(float(expected), abs=1e-3)


def test_a_wider_beam_scores_no_worse_on_the_whole(captioner, features):
    def mean_score(beam_size: int) -> float:
        captions = beam_search(captioner, features, beam_size=beam_size, length_penalty=0.0, max_length=12)
        return sum(caption.log_probability for caption in captions) / len(captions)

    assert mean_score(5) >= mean_score(1)


def test_finished_images_leave_the_batch():
    # Image 0 ends at once, image 1 after one word, image 2 never.
    tables = torch.cat(
        [
            table_of({BOS: {EOS: 1.0}}),
            table_of({BOS: {A: 1.0}, A: {EOS: 1.0}}),
            table_of({BOS: {A: 1.0}, A: {A: 1.0}}),
        ]
    )
    images = torch.arange(3.0).unsqueeze(1)
    captioner = NextWordTable(tables)
    for search in (greedy_search, lambda *args, **kw: beam_search(*args, **kw, beam_size=1, length_penalty=0.7)):
        captioner.images_stepped.clear()
        captions = search(captioner, images, max_length=4)
        assert captioner.images_stepped == [3, 2, 1, 1]
        assert [caption.token_ids for caption in captions] == [(), (A,), (A, A, A, A)]


def test_a_beam_wider_than_the_vocabulary_works():
    captioner = NextWordTable(table_of({BOS: {A: 0.7, EOS: 0.3}, A: {A: 0.5, EOS: 0.5}}))
    (caption,) = beam_search(captioner, IMAGE, beam_size=20, length_penalty=0.0, max_length=3)
    assert (caption.token_ids, caption.log_probability) == ((A,), pytest.approx(math.log(0.35)))


@pytest.mark.parametrize("decoding", EVERY_WAY, ids=lambda one: one.method)
def test_no_images_give_no_captions(captioner, features, decoding):
    assert decode(captioner, features[:0], decoding, seed=0) == []


def test_a_beams_candidates_are_all_finished_and_those_open_at_the_end():
    # "<eos>" 0.4 and "a <eos>" 0.6 x 0.5 = 0.3 are finished; then "a a" 0.6 x 0.5 is as long as can be.
    captioner = NextWordTable(table_of({BOS: {EOS: 0.4, A: 0.6}, A: {EOS: 0.5, A: 0.5}}))
    ((first, second, third),) = searching.beam_search(captioner, IMAGE, beam_size=3, length_penalty=0.0, max_length=2)
    assert (first.token_ids, first.log_probability) == ((), pytest.approx(math.log(0.4)))
    assert (second.token_ids, second.log_probability) == ((A,), pytest.approx(math.log(0.3)))
    assert (third.token_ids, third.log_probability) == ((A, A), pytest.approx(math.log(0.3)))


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_a_wide_beams_candidates_are_all_captions_in_order(length_penalty):
    max_length = 3
    table = torch.randn(1, 7, 7, generator=torch.Generator().manual_seed(1)) * 2
    (found,) = searching.beam_search(
        NextWordTable(table), IMAGE, beam_size=100, length_penalty=length_penalty, max_length=max_length
    )
    everything = sorted(
        _all_captions(allowed_log_probabilities(table[0]), max_length),
        key=lambda each: -each[2] / each[1] ** length_penalty,
    )
    assert [caption.token_ids for caption in found] == [words for words, _, _ in everything]


# Diverse beam search.


def diverse(**changes):
    settings = {"beam_size": 4, "num_groups": 2, "diversity_penalty": 0.5, "length_penalty": 0.7, "max_length": 12}
    return DiverseBeam(method="diverse_beam", batch_size=16, **{**settings, **changes})


def test_groups_that_cost_each_other_nothing_are_one_beam_each(captioner, features):
    found = decode(captioner, features, diverse(diversity_penalty=0.0), seed=0)
    alone = decode(captioner, features, beam(beam_size=2), seed=0)
    assert [of_image[:2] for of_image in found] == alone  # of two groups' candidates twice as many are kept


def test_the_first_group_is_a_beam_of_its_own_whatever_the_penalty(captioner, features):
    found = decode(captioner, features, diverse(diversity_penalty=50.0, beam_size=6), seed=0)
    for of_image, first in zip(found, decode(captioner, features, beam(beam_size=3), seed=0), strict=True):
        assert {caption.token_ids for caption in first} & {caption.token_ids for caption in of_image}
        assert of_image[0].score >= first[0].score - 1e-6


def test_a_high_penalty_gives_each_group_its_own_word_at_each_position():
    table = table_of({token: {A: 0.7, B: 0.2, C: 0.1} for token in (BOS, A, B, C)})
    (found,) = decode(
        NextWordTable(table), IMAGE, diverse(beam_size=3, num_groups=3, diversity_penalty=9.0, max_length=3), seed=0
    )
    assert ids_of(found) == [(A, A, A), (B, B, B), (C, C, C)]
    assert found[1].log_probability == pytest.approx(3 * math.log(0.2)), "the penalty is no part of it"


def test_the_penalty_counts_the_beams_that_chose_a_word():
    # The second group has "a" at ln 0.6 - penalty and "b" at ln 0.4: the turning point is ln(0.6 / 0.4) = 0.405.
    table = table_of({BOS: {A: 0.6, B: 0.4}, A: {EOS: 1.0}, B: {EOS: 1.0}})
    for penalty, captions in ((0.40, [(A,)]), (0.41, [(A,), (B,)])):
        (found,) = decode(NextWordTable(table), IMAGE, diverse(beam_size=2, diversity_penalty=penalty), seed=0)
        assert ids_of(found) == captions


# Drawing words.


def nucleus(**changes):
    settings = {"top_p": 0.9, "temperature": 1.0, "num_samples": 6, "max_length": 12, "batch_size": 16}
    return Nucleus(method="nucleus", **{**settings, **changes})


def test_a_nucleus_of_next_to_nothing_is_greedy(captioner, features):
    found = decode(captioner, features, nucleus(top_p=1e-9), seed=0)
    greedy = decode(captioner, features, Greedy(method="greedy", max_length=12, batch_size=16), seed=0)
    assert [ids_of(of_image) for of_image in found] == [ids_of(of_image) for of_image in greedy]


def test_a_nucleus_holds_the_likeliest_words_and_no_other():
    # a and b hold 0.5 + 0.3, short of 0.85; with c they hold 0.95: <eos>, 0.05, is outside.
    table = table_of({BOS: {A: 0.5, B: 0.3, C: 0.15, EOS: 0.05}})
    (found,) = decode(NextWordTable(table), IMAGE, nucleus(top_p=0.85, num_samples=500), seed=0)
    assert ids_of(found) == [(A,), (B,), (C,)]
    (found,) = decode(NextWordTable(table), IMAGE, nucleus(top_p=0.79, num_samples=500), seed=0)
    assert ids_of(found) == [(A,), (B,)]
    assert [caption.log_probability for caption in found] == pytest.approx([math.log(0.5), math.log(0.3)])


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, (0.5, 0.3, 0.2)), (0.5, (0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38))]
)
def test_words_are_drawn_as_often_as_they_are_likely(temperature, expected):
    # Divided by a temperature of 0.5, logits square the probabilities: 0.25, 0.09, 0.04 of 0.38.
    log_probabilities = allowed_log_probabilities(table_of({BOS: {A: 0.5, B: 0.3, C: 0.2}})[:, BOS : BOS + 1])
    uniform = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn = sampling._sample_nucleus(
        log_probabilities.expand(1, 10_000, -1), uniform.unsqueeze(0), top_p=1.0, temperature=temperature
    )
    counts = Counter(drawn[0].tolist())
    assert [counts[token] / 10_000 for token in (A, B, C)] == pytest.approx(expected, abs=2e-4)


def test_draws_depend_on_the_seed_and_on_the_images_position(captioner, features):
    alike = features[:1].expand(6, *features.shape[1:])
    found = decode(captioner, alike, nucleus(num_samples=1, top_p=1.0), seed=0)
    assert found == decode(captioner, alike, nucleus(num_samples=1, top_p=1.0), seed=0)
    assert found != decode(captioner, alike, nucleus(num_samples=1, top_p=1.0), seed=1)
    assert len({ids_of(of_image)[0] for of_image in found}) > 1


def samples(captioner, features, *, num_samples, max_length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    memory = captioner.memory(features)
    return sample_captions(captioner, memory, num_samples=num_samples, max_length=max_length, generator=generator)


def test_samples_are_drawn_as_often_as_they_are_likely():
    # "<eos>" 0.2, "a <eos>" 0.5 x 0.6 = 0.3, "a b <eos>" 0.5 x 0.4 = 0.2, "b <eos>" 0.3; forbidden tokens never.
    table = table_of({BOS: {A: 0.5, B: 0.3, EOS: 0.2}, A: {EOS: 0.6, B: 0.4}, B: {EOS: 1.0}})
    table[:, :, list(NEVER_EMITTED)] = 9.0
    drawn = samples(NextWordTable(table), IMAGE, num_samples=4000, max_length=5)
    assert drawn.shape == (1, 4000, 3)
    counts = Counter(map(tuple, drawn[0].tolist()))
    expected = {(EOS, PAD, PAD): 0.2, (A, EOS, PAD): 0.3, (A, B, EOS): 0.2, (B, EOS, PAD): 0.3}
    assert set(counts) == set(expected)
    for caption, probability in expected.items():  # five standard errors of 4,000 draws
        assert counts[caption] / 4000 == pytest.approx(probability, abs=5 * 0.0073)


def test_samples_end_with_padding_and_stop_at_the_longest_length(captioner, features):
    drawn = samples(captioner, features, num_samples=5, max_length=6)
    assert drawn.shape == (16, 5, 6)
    for ids in drawn.flatten(0, 1).tolist():
        words = list(itertools.takewhile(lambda token: token > UNK, ids))
        assert ids[len(words) :] in ([], [EOS] + [PAD] * (5 - len(words)))
    assert torch.equal(drawn, samples(captioner, features, num_samples=5, max_length=6))
    assert not torch.equal(drawn, samples(captioner, features, num_samples=5, max_length=6, seed=1))


def test_greedy_tokens_are_the_greedy_captions_with_their_ends(captioner, features):
    tokens, totals = greedy_tokens(captioner, captioner.memory(features), max_length=12)
    for ids, total, caption in zip(
        tokens.tolist(), totals.tolist(), greedy_search(captioner, features, max_length=12), strict=True
    ):
        words = list(caption.token_ids)
        assert ids == (words + [EOS] + [PAD] * 12)[:12]
        assert total == caption.log_probability == caption.score


def test_the_best_of_equal_captions_is_kept():
    captions = [
        Decoded((A,), -2.0, -2.0),
        Decoded((B,), -1.0, -1.0),
        Decoded((A,), -1.5, -1.5),
        Decoded((C,), -1.0, -1.0),
    ]
    assert best_first(captions) == [captions[1], captions[3], captions[2]]
