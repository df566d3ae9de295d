import itertools
import math

import pytest
import torch
from torch import Tensor

from seesay.models import beam_search as searching
from seesay.models.captioner import Captioner, Memory, State
from seesay.models.decoded import Decoded, allowed_log_probabilities
from seesay.models.greedy import greedy_search
from seesay.models.lstm import LSTMCaptioner
from seesay.models.special_tokens import BOS, EOS, NEVER_EMITTED, PAD, UNK

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
        self.rows_stepped: list[int] = []
        self.eval()

    def memory(self, features: Tensor) -> Memory:
        return (features[:, 0].long(),)

    def initial_state(self, memory: Memory) -> State:
        return (torch.zeros(len(memory[0]), 1, 1),)

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        assert len(tokens) == len(memory[0]) == len(state[0])
        assert tokens.shape == state[0].shape[:2]
        self.rows_stepped.append(len(tokens))
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


@pytest.fixture(scope="module")
def captioner() -> LSTMCaptioner:
    torch.manual_seed(3)
    captioner = LSTMCaptioner(30, 12, embedding_size=16, hidden_size=24, dropout=0.0)
    with torch.no_grad():
        captioner.head.weight.mul_(12)  # opinionated, so that captions differ between images and in length
        captioner.head.bias[EOS] += 1.0
    return captioner.eval()


@pytest.fixture(scope="module")
def features() -> Tensor:
    return 3 * torch.randn(16, 12, generator=torch.Generator().manual_seed(0))


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
    assert caption == Decoded((), pytest.approx(math.log(0.5)))


def test_a_caption_stops_at_the_longest_length_without_an_end():
    captioner = NextWordTable(table_of({BOS: {A: 1.0}, A: {A: 0.9, EOS: 0.1}}))
    (greedy,) = greedy_search(captioner, IMAGE, max_length=3)
    (beam,) = beam_search(captioner, IMAGE, beam_size=1, length_penalty=0.7, max_length=3)
    assert greedy == beam == Decoded((A, A, A), pytest.approx(math.log(0.9 * 0.9)))


def test_special_tokens_are_never_emitted_however_likely():
    tables = torch.zeros(1, 7, 7)
    tables[:, :, list(NEVER_EMITTED)] = 50.0
    captioner = NextWordTable(tables)
    captions = greedy_search(captioner, IMAGE, max_length=8)
    captions += beam_search(captioner, IMAGE, beam_size=4, length_penalty=2.0, max_length=8)
    for caption in captions:
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


def test_images_are_captioned_together_as_they_are_alone(captioner, features):
    for search in (
        lambda rows: greedy_search(captioner, rows, max_length=12),
        lambda rows: beam_search(captioner, rows, beam_size=3, length_penalty=0.7, max_length=12),
    ):
        together = search(features)
        alone = [search(row)[0] for row in features.split(1)]
        assert [caption.token_ids for caption in together] == [caption.token_ids for caption in alone]


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
    greedy_search(captioner, images, max_length=4)
    assert captioner.rows_stepped == [3, 2, 1, 1]
    captioner.rows_stepped.clear()
    captions = beam_search(captioner, images, beam_size=1, length_penalty=0.7, max_length=4)
    assert captioner.rows_stepped == [3, 2, 1, 1]
    assert [caption.token_ids for caption in captions] == [(), (A,), (A, A, A, A)]


def test_a_beam_wider_than_the_vocabulary_works():
    captioner = NextWordTable(table_of({BOS: {A: 0.7, EOS: 0.3}, A: {A: 0.5, EOS: 0.5}}))
    (caption,) = beam_search(captioner, IMAGE, beam_size=20, length_penalty=0.0, max_length=3)
    assert caption == Decoded((A,), pytest.approx(math.log(0.35)))


def test_no_images_give_no_captions(captioner, features):
    assert greedy_search(captioner, features[:0], max_length=5) == []
    assert beam_search(captioner, features[:0], beam_size=2, length_penalty=0.7, max_length=5) == []
