import numpy as np
import pytest
import torch

from seesay.captioning.data.batches import (
    encode_captions,
    image_batches,
    images_of,
    ordered_batches,
    references_of,
    shuffled_batches,
)
from seesay.captioning.data.records import CaptionRecord, collect_records
from seesay.captioning.features.store import Features, FeaturesIndex
from seesay.captioning.features.combined import CombinedFeatures, require_compatible
from seesay.sources.provenance import SourceNote
from seesay.captioning.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from seesay.core.errors import InputError
from seesay.captioning.data import vocabulary as special_tokens

CPU = torch.device("cpu")
VOCABULARY = Vocabulary(("<pad>", "<bos>", "<eos>", "<unk>", "a", "red", "ball", "rolls"), 1, "1", "c" * 64)
A, RED, BALL, ROLLS = 4, 5, 6, 7


def records_of(*captions_of_images, split="train"):
    records = [
        CaptionRecord(number, f"{number}.png", "images.zip", split, tuple(captions), 8, 8)
        for number, captions in enumerate(captions_of_images)
    ]
    return collect_records("balls", records, SourceNote("balls", ()))


def features_of(num_images, *, first=0, **index):
    """Row r holds first + r twice, so that a feature tells which image it is of."""
    pooled = np.repeat(first + np.arange(num_images, dtype=np.float16)[:, None], 2, axis=1)
    note = SourceNote("encoder", ())
    parts = {
        "encoder": "e",
        "architecture": "small_cnn",
        "weights": note,
        "transform": {},
        "dataset": "balls",
        "dataset_digest": "d" * 64,
        "shape": pooled.shape,
        "image_ids": tuple(range(num_images)),
    }
    return Features(pooled, FeaturesIndex(**{**parts, **index}))


def joined(*features):
    return CombinedFeatures(features, "pooled")


@pytest.fixture
def many():
    """30 images with one to three captions of one to seven words."""
    generator = np.random.default_rng(0)
    words = ("a", "red", "ball", "rolls")
    return records_of(
        *(
            [" ".join(generator.choice(words, generator.integers(1, 8))) for _ in range(generator.integers(1, 4))]
            for _ in range(30)
        )
    )


def encode(records, split="train", max_caption_length=10):
    return encode_captions([records], split, VOCABULARY, max_caption_length=max_caption_length)


def examples(batches):
    """(image, words) of every example in batches, order aside."""
    found = []
    for batch in batches:
        for features, inputs, targets in zip(batch.features, batch.inputs, batch.targets, strict=True):
            assert inputs[0] == BOS
            found.append((int(features[0]), tuple(targets[targets != PAD].tolist())))
    return sorted(found)


def test_models_and_vocabularies_number_the_special_tokens_alike():
    ours = (special_tokens.PAD, special_tokens.BOS, special_tokens.EOS, special_tokens.UNK)
    assert ours == (PAD, BOS, EOS, UNK)


def test_a_caption_is_its_words_between_beginning_and_end():
    encoded = encode(records_of(["A red ball.", "a blue ball rolls"]))
    assert encoded.token_ids.tolist() == [[BOS, A, RED, BALL, EOS, PAD], [BOS, A, UNK, BALL, ROLLS, EOS]]
    assert encoded.lengths.tolist() == [5, 6]


def test_a_cut_caption_is_not_taught_to_end_where_it_was_cut():
    encoded = encode(records_of(["a red ball", "a red ball rolls"]), max_caption_length=3)
    assert encoded.token_ids.tolist() == [[BOS, A, RED, BALL, EOS], [BOS, A, RED, BALL, PAD]]


def test_images_may_have_unequal_numbers_of_captions():
    encoded = encode(records_of(["a"], ["red", "ball", "a ball"], ["rolls"]))
    assert encoded.rows.tolist() == [0, 1, 1, 1, 2]
    assert len(encoded) == 5


def test_a_split_without_captions_is_refused():
    with pytest.raises(InputError, match="balls: no image of the val split has a caption"):
        encode(records_of(["a"]), split="val")


def test_rows_of_a_later_split_are_those_of_the_whole_dataset():
    train, val = records_of(["a"], ["red"]), records_of(["ball"], split="val")
    both = collect_records("balls", [*train.records, *val.records], train.source)
    assert encode(both, split="val").rows.tolist() == [2]


def test_targets_are_the_inputs_one_step_on():
    encoded = encode(records_of(["a red ball", "a"]))
    (batch,) = ordered_batches(encoded, joined(features_of(1)), batch_size=4, device=CPU)
    assert batch.inputs.tolist() == [[BOS, A, EOS, PAD], [BOS, A, RED, BALL]]
    assert batch.targets.tolist() == [[A, EOS, PAD, PAD], [A, RED, BALL, EOS]]
    assert batch.features.dtype == torch.float32


def test_an_epoch_holds_every_caption_once_with_its_own_image(many):
    encoded, features = encode(many), joined(features_of(30))
    expected = sorted(
        (row, (*VOCABULARY.encode(caption.split()), EOS))
        for row, record in enumerate(many.records)
        for caption in record.captions
    )
    for epoch in (1, 2):
        batches = list(shuffled_batches(encoded, features, batch_size=8, seed=0, epoch=epoch, device=CPU))
        assert len(batches) == encoded.num_batches(8)
        assert examples(batches) == expected
    assert examples(ordered_batches(encoded, features, batch_size=8, device=CPU)) == expected


def test_batches_hold_captions_of_like_length(many):
    encoded = encode(many)
    padding = sum(
        int((batch.targets == PAD).sum())
        for batch in shuffled_batches(encoded, joined(features_of(30)), batch_size=8, seed=0, epoch=1, device=CPU)
    )
    # Sorted by length into batches, lengths within all batches together climb once from shortest to longest: 1 to 7.
    assert padding <= 8 * (7 - 1)


def test_batches_depend_on_seed_and_epoch_alone(many):
    encoded, features = encode(many), joined(features_of(30))

    def inputs(*, seed, epoch):
        batches = shuffled_batches(encoded, features, batch_size=8, seed=seed, epoch=epoch, device=CPU)
        return [batch.inputs.tolist() for batch in batches]

    assert inputs(seed=0, epoch=3) == inputs(seed=0, epoch=3)
    assert inputs(seed=0, epoch=3) != inputs(seed=0, epoch=4)
    assert inputs(seed=0, epoch=3) != inputs(seed=1, epoch=3)


def test_two_datasets_reach_the_batches_each_with_its_own_features(many):
    others = records_of(["red", "ball"], ["a red ball"])
    both = encode_captions([many, others], "train", VOCABULARY, max_caption_length=10)
    features = joined(features_of(30), features_of(2, first=100))
    expected = [
        *examples(ordered_batches(encode(many), joined(features_of(30)), batch_size=8, device=CPU)),
        *[(100, (RED, EOS)), (100, (BALL, EOS)), (101, (A, RED, BALL, EOS))],
    ]
    assert len(both) == len(encode(many)) + 3
    assert examples(shuffled_batches(both, features, batch_size=8, seed=0, epoch=1, device=CPU)) == sorted(expected)


def test_images_and_references_leave_out_images_without_captions():
    """Both are listed in the same order."""
    first, second = records_of(["a red ball"], [], ["ball", "red"]), records_of(["rolls."])
    images = images_of([first, second], "train")
    assert images.datasets.tolist() == [0, 0, 1]
    assert images.rows.tolist() == [0, 2, 0]
    assert references_of([first, second], "train") == [[["a", "red", "ball"]], [["ball"], ["red"]], [["rolls"]]]
    features = joined(features_of(3), features_of(1, first=100))
    batches = list(image_batches(images, features, np.array([2, 0, 1]), batch_size=2, device=CPU))
    assert [batch.images.tolist() for batch in batches] == [[2, 0], [1]]
    assert [batch.features[:, 0].tolist() for batch in batches] == [[100.0, 0.0], [2.0]]


def test_what_a_scale_is_measured_on_counts_each_image_once():
    features = joined(features_of(3), features_of(2, first=100))
    measured = features.sample_vectors(np.array([1, 0, 0, 0, 1]), np.array([1, 2, 0, 2, 1]))
    assert measured[:, 0].tolist() == [0.0, 2.0, 101.0]


def test_each_place_of_a_grid_is_measured():
    grid = np.arange(12, dtype=np.float16).reshape(2, 3, 2)
    features = CombinedFeatures([Features(grid[:, 0], features_of(2).index, grid)], "grid")
    measured = features.sample_vectors(np.array([0, 0]), np.array([1, 0]))
    assert measured.tolist() == grid.reshape(6, 2).tolist()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (features_of(2, encoder="another"), "encoders differ: e, .* and another"),
        (features_of(2, transform={"image_size": 64}), "transforms differ"),
        (Features(np.zeros((2, 3), np.float16), features_of(2).index), r"sizes differ: .*\(2,\).* and .*\(3,\)"),
        (Features(np.zeros((2, 2), np.float16), features_of(2).index, np.zeros((2, 4, 2), np.float16)), "sizes differ"),
    ],
)
def test_features_that_do_not_go_together_are_refused_by_name(other, message):
    require_compatible(["here", "there"], [features_of(3), features_of(2, first=100)])
    with pytest.raises(InputError, match=f"features here and there: .*{message}"):
        require_compatible(["here", "there"], [features_of(3), other])


def test_two_projections_on_components_of_their_own_are_refused():
    with pytest.raises(InputError, match="its own principal components"):
        require_compatible(["here", "there"], [features_of(3, num_components=2), features_of(2, num_components=2)])


def features_with_views(num_images):
    """Views of image r are r + 0.25 and r + 0.5."""
    plain = features_of(num_images, num_views=2)
    pooled = np.concatenate([plain.pooled, plain.pooled + np.float16(0.25), plain.pooled + np.float16(0.5)])
    return Features(pooled, plain.index, viewed=np.arange(num_images))


def test_captions_come_with_any_view_of_their_own_image(many):
    encoded, rows = encode(many), joined(features_with_views(len(many)))
    plain = joined(features_of(len(many)))
    arguments = {"batch_size": 7, "seed": 0, "epoch": 1, "device": CPU}
    varied = list(shuffled_batches(encoded, rows, **arguments))
    looks = torch.cat([batch.features[:, 0] for batch in varied])
    assert torch.equal(looks.floor(), torch.cat([b.features[:, 0] for b in shuffled_batches(encoded, plain, **arguments)]))
    assert set((looks % 1.0).tolist()) == {0.0, 0.25, 0.5}
    assert examples(varied) == examples(shuffled_batches(encoded, plain, **arguments))
    later = torch.cat([b.features[:, 0] for b in shuffled_batches(encoded, rows, **{**arguments, "epoch": 2})])
    assert not torch.equal(looks.sort().values, later.sort().values)


def test_images_are_themselves_unless_views_are_asked_for(many):
    images, rows = images_of([many], "train"), joined(features_with_views(len(many)))
    order = np.arange(len(many))

    def looks(views):
        found = image_batches(images, rows, order, batch_size=8, device=CPU, views=views)
        return torch.cat([batch.features[:, 0] for batch in found])

    assert looks(None).tolist() == list(range(len(many)))
    varied = looks(np.random.default_rng(0))
    assert varied.floor().tolist() == list(range(len(many)))
    assert set((varied % 1.0).tolist()) == {0.0, 0.25, 0.5}


def test_captions_to_be_judged_by_are_of_the_images_themselves(many):
    rows = joined(features_with_views(len(many)))
    looks = torch.cat([b.features[:, 0] for b in ordered_batches(encode(many), rows, batch_size=7, device=CPU)])
    assert not (looks % 1.0).any()
