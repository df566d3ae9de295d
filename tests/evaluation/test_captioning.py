import numpy as np
import pytest
import torch

from seesay.compute import Compute
from seesay.data.caption_records import CaptionRecord, collect_records
from seesay.data.features import Features, FeaturesIndex
from seesay.data.sources import SourceNote
from seesay.data.vocabulary import EOS, Vocabulary
from seesay.errors import InputError
from seesay.evaluation.captioning import caption_splits, derangement
from seesay.models.captioner import Captioner
from seesay.params.captioning import Decoding

COMPUTE = Compute(torch.device("cpu"), None, num_threads=1, deterministic=True, compile=False)
NUM_IMAGES = {"train": 4, "val": 5, "test": 7}
VOCABULARY = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", *(f"image{row}" for row in range(16))), 1, "1", "c" * 64)


class NamesItsImage(Captioner):
    """Says the one word that features (N, 1) are the number of."""

    vocabulary_size = 20

    def __init__(self):
        super().__init__()
        self.eval()

    def initial_state(self, features):
        return (features[:, 0].long(), torch.zeros(len(features)))

    def step(self, tokens, state):
        image, num_steps = state
        wanted = torch.where(num_steps == 0, image + 4, EOS)
        return torch.nn.functional.one_hot(wanted, 20) * 20.0, (image, num_steps + 1)


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
    pooled = np.arange(len(captions), dtype=np.float16)[:, None]
    index = FeaturesIndex("e", "small_cnn", SourceNote("e", ()), {}, "numbers", captions.digest, pooled.shape, ())
    return Features(pooled, index)


def decoding_of(**changes):
    settings = {"method": "beam", "beam_size": 2, "length_penalty": 0.7, "max_length": 5, "batch_size": 3}
    return Decoding.model_validate({**settings, **changes})


def splits_of(captions, features, *, seed=0, **changes):
    return caption_splits(
        NamesItsImage(), captions, VOCABULARY, features, decoding_of(**changes), seed=seed, compute=COMPUTE
    )


@pytest.mark.parametrize("changes", [{}, {"method": "greedy", "beam_size": 1}, {"batch_size": 100}])
def test_each_image_is_captioned_from_its_own_features(captions, features, changes):
    predictions = splits_of(captions, features, **changes)
    for split in ("val", "test"):
        assert predictions[split] == [
            {"image_id": captions.records[row].image_id, "caption": f"image{row}"} for row in captions.rows(split)
        ]


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
    with pytest.raises(InputError, match="numbers: expected two test images or more"):
        splits_of(lonely, features)


def test_a_captioner_of_another_vocabulary_is_refused(captions, features):
    smaller = Vocabulary(VOCABULARY.tokens[:-1], 1, "1", "c" * 64)
    with pytest.raises(AssertionError, match="another vocabulary"):
        caption_splits(NamesItsImage(), captions, smaller, features, decoding_of(), seed=0, compute=COMPUTE)
