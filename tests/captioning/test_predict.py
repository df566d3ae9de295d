from dataclasses import dataclass

import numpy as np
import pytest
import torch

from seesay.captioning.data.records import CaptionRecord, collect_records
from seesay.captioning.data.vocabulary import EOS, Vocabulary
from seesay.captioning.decoding.hypotheses import Decoded
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.networks.base import Captioner
from seesay.captioning.predict import caption_by_neighbours, caption_splits, derangement, rerank_by_consensus
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.params.captioning import Beam, Greedy
from seesay.sources.provenance import SourceNote

COMPUTE = Compute(torch.device("cpu"), None, num_threads=1, deterministic=True, compile=False)
NUM_IMAGES = {"train": 4, "val": 5, "test": 7}
VOCABULARY = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", *(f"image{row}" for row in range(16))), 1, "1", "c" * 64)


class NamesItsImage(Captioner):
    """Says the one word that features (N, 1) are the number of."""

    looks_at = "pooled"
    vocabulary_size = 20

    def __init__(self):
        super().__init__()
        self.eval()

    def memory(self, features):
        return (features[:, 0].long(),)

    def initial_state(self, memory):
        return (torch.zeros(len(memory[0]), 1),)

    def step(self, tokens, state, memory):
        (num_steps,) = state
        image = memory[0].unsqueeze(1).expand(tokens.shape)
        wanted = torch.where(num_steps == 0, image + 4, EOS)
        return torch.nn.functional.one_hot(wanted, 20) * 20.0, (num_steps + 1,)


@dataclass(frozen=True)
class Shown:
    """What captioning asks of features."""

    pooled: np.ndarray

    def array(self, looks_at):
        assert looks_at == "pooled"
        return self.pooled


@pytest.fixture
def captions():
    records = [
        CaptionRecord(1000 - number, f"{split}{number}.png", "images.zip", split, ("a",), 8, 8)
        for split, count in NUM_IMAGES.items()
        for number in range(count)
    ]
    return collect_records("numbers", records, SourceNote("numbers", ()))


@pytest.fixture
def features(captions):
    return Shown(np.arange(len(captions), dtype=np.float16)[:, None])


BEAM = Beam(method="beam", beam_size=2, length_penalty=0.7, max_length=5, batch_size=3)
GREEDY = Greedy(method="greedy", max_length=5, batch_size=3)


def splits_of(captions, features, *, seed=0, decoding=BEAM):
    return caption_splits(
        NamesItsImage(), captions, VOCABULARY, [features], decoding, seed=seed, compute=COMPUTE
    ).predictions


@pytest.mark.parametrize("decoding", [BEAM, GREEDY, BEAM.model_copy(update={"batch_size": 100})])
def test_each_image_is_captioned_from_its_own_features(captions, features, decoding):
    predictions = splits_of(captions, features, decoding=decoding)
    for split in ("val", "test"):
        assert [(each["image_id"], each["caption"]) for each in predictions[split]] == [
            (captions.records[row].image_id, f"image{row}") for row in captions.rows(split)
        ]


def test_alternatives_are_what_was_found_best_first(captions, features):
    predictions = splits_of(captions, features)
    for prediction in (*predictions["val"], *predictions["test"]):
        first, second = prediction["alternatives"]
        assert first == {"caption": prediction["caption"], "log_probability": 0.0}  # of logits 20 and 0: 1 - 3e-8
        assert second["log_probability"] == -20.0  # a word at the likely <eos>'s place, or the like
    assert all("alternatives" not in each for each in predictions["test_shuffled"])
    greedy = splits_of(captions, features, decoding=GREEDY)["val"]
    assert all(len(each["alternatives"]) == 1 for each in greedy)


def test_the_speed_is_measured(captions, features):
    said = caption_splits(NamesItsImage(), captions, VOCABULARY, [features], BEAM, seed=0, compute=COMPUTE)
    assert said.images_per_second > 0


def test_test_images_are_captioned_as_their_neighbours_are():
    texts = {"train": ("a red barn", "a dog", "a cat"), "val": ("a dog",), "test": ("x", "y")}
    angles = {"train": (0.0, 2.0, 4.0), "val": (2.1,), "test": (3.9, 0.1)}
    records = [
        CaptionRecord(10 * place + number, f"{split}{number}", "", split, (text,), 8, 8)
        for place, (split, of_split) in enumerate(texts.items())
        for number, text in enumerate(of_split)
    ]
    angle = np.array([value for of_split in angles.values() for value in of_split])
    shown = Shown(np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float16))
    predictions, num_neighbours = caption_by_neighbours(collect_records("n", records, SourceNote("n", ())), shown)
    assert predictions == [{"image_id": 20, "caption": "a cat"}, {"image_id": 21, "caption": "a red barn"}]
    assert num_neighbours == 1


def test_shuffled_captions_are_those_of_other_test_images(captions, features):
    predictions = splits_of(captions, features)
    own, shuffled = predictions["test"], predictions["test_shuffled"]
    assert [each["image_id"] for each in shuffled] == [each["image_id"] for each in own]
    assert all(theirs["caption"] != ours["caption"] for theirs, ours in zip(shuffled, own, strict=True))
    assert sorted(each["caption"] for each in shuffled) == sorted(each["caption"] for each in own)


def test_shuffling_depends_on_the_seed_alone(captions, features):
    first, again, other = (splits_of(captions, features, seed=seed)["test_shuffled"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("num_items", [2, 3, 10, 1000])
def test_a_derangement_moves_everything(num_items):
    for seed in range(5):
        order = derangement(num_items, seed=seed)
        assert sorted(order.tolist()) == list(range(num_items))
        assert (order != np.arange(num_items)).all()


def test_one_test_image_cannot_be_shuffled(captions, features):
    records = [record for record in captions.records if record.split != "test"]
    records.append(CaptionRecord(1, "1.png", "images.zip", "test", ("a",), 8, 8))
    lonely = collect_records("numbers", records, captions.source)
    with pytest.raises(InputError, match="numbers: got 1 test image: expected at least two"):
        splits_of(lonely, features)


def test_a_captioner_of_another_vocabulary_is_refused(captions, features):
    smaller = Vocabulary(VOCABULARY.tokens[:-1], 1, "1", "c" * 64)
    with pytest.raises(AssertionError, match="another vocabulary"):
        caption_splits(NamesItsImage(), captions, smaller, [features], BEAM, seed=0, compute=COMPUTE)


def test_the_caption_most_like_the_others_comes_first():
    """By log-probability the first is best; the other two share words that are rare in train, so they agree."""
    vocabulary = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "a", "dog", "runs", "cat"), 1, "ptb-1", "")
    references = CiderReferences([[["a", "dog"]], [["a", "cat"]], [["a", "bird", "runs"]]])
    cat, dog, dogs = (Decoded(ids, -float(rank), -float(rank)) for rank, ids in enumerate(((4, 7), (4, 5), (4, 5, 6))))
    ((first, second, third), alone) = rerank_by_consensus([[cat, dog, dogs], [cat]], vocabulary, references)
    assert [first.token_ids, second.token_ids, third.token_ids] == [dog.token_ids, dogs.token_ids, cat.token_ids]
    assert first.score == second.score > third.score == 0.0  # of equals, the one that decoding ranked higher
    assert first.log_probability == dog.log_probability
    assert [one.token_ids for one in alone] == [cat.token_ids]


def test_reranking_is_an_option_of_decoding(captions, features):
    plain = splits_of(captions, features)
    reranked = splits_of(captions, features, decoding=BEAM.model_copy(update={"rerank": "consensus"}))
    for found, expected in zip(reranked["test"], plain["test"], strict=True):
        assert sorted(each["caption"] for each in found["alternatives"]) == sorted(
            each["caption"] for each in expected["alternatives"]
        )
