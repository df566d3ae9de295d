import json
from pathlib import Path

import pytest

from seesay.captioning.data.records import CaptionRecord, CaptionRecords, collect_records
from seesay.sources.provenance import SourceNote
from seesay.captioning.data.vocabulary import (
    BOS,
    EOS,
    PAD,
    UNK,
    build_vocabulary,
    out_of_vocabulary_rates,
    read_vocabulary,
    write_vocabulary,
)
from seesay.core.errors import InputError

TRAIN = ("A dog runs.", "a dog sits", "the cat runs", "a <unk> sign")


def dataset(train: tuple[str, ...] = TRAIN, test: tuple[str, ...] = ("a zebra runs",)) -> CaptionRecords:
    texts = {"train": train, "val": ("the dog",), "test": test}
    records = [CaptionRecord(n, f"{n}.jpg", "", split, texts[split], 1, 1) for n, split in enumerate(texts)]
    return collect_records("toy", records, SourceNote("toy", ()))


def test_tokens_are_ordered_by_count_then_alphabet_after_the_special_ones() -> None:
    # a 3; dog 2, runs 2; the others 1
    vocabulary = build_vocabulary(dataset(), min_count=1)
    assert vocabulary.tokens[:7] == ("<pad>", "<bos>", "<eos>", "<unk>", "a", "dog", "runs")
    assert vocabulary.tokens[7:] == ("cat", "sign", "sits", "the")
    assert build_vocabulary(dataset(), min_count=2).tokens[4:] == ("a", "dog", "runs")


def test_the_vocabulary_knows_the_training_captions_only() -> None:
    assert build_vocabulary(dataset(), min_count=1) == build_vocabulary(dataset(test=("zebra " * 9,)), min_count=1)
    assert "zebra" not in build_vocabulary(dataset(), min_count=1).tokens


def test_encoding_gives_unk_for_the_unknown_and_never_a_control_token() -> None:
    vocabulary = build_vocabulary(dataset(), min_count=2)
    assert vocabulary.encode(["a", "zebra", "runs"]) == [4, UNK, 6]
    assert vocabulary.encode(["<pad>", "<bos>", "<eos>", "<unk>"]) == [UNK] * 4


def test_decoding_stops_at_the_end_and_skips_padding() -> None:
    vocabulary = build_vocabulary(dataset(), min_count=2)
    assert vocabulary.decode([BOS, 4, 5, UNK, EOS, 6, PAD]) == ["a", "dog", "<unk>"]
    tokens = ["a", "dog", "runs"]
    assert vocabulary.decode(vocabulary.encode(tokens)) == tokens


def test_rates_of_unknown_tokens_are_per_split() -> None:
    vocabulary = build_vocabulary(dataset(), min_count=2)
    # train: 12 tokens, unknown: sits, the, cat, <unk>, sign
    assert out_of_vocabulary_rates(vocabulary, dataset()) == {
        "train/out_of_vocabulary": pytest.approx(5 / 12),
        "val/out_of_vocabulary": 1 / 2,
        "test/out_of_vocabulary": pytest.approx(1 / 3),
    }


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(dataset(), min_count=1)
    write_vocabulary(tmp_path / "v.json", vocabulary)
    assert read_vocabulary(tmp_path / "v.json") == vocabulary
    assert read_vocabulary(tmp_path / "v.json").digest == vocabulary.digest
    assert json.loads((tmp_path / "v.json").read_text())["min_count"] == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema_version", 0, "schema_version: got 0"),
        ("tokenizer_version", "ptb-0", "made with tokenizer 'ptb-0'"),
        ("tokens", ["a"], "expected .* first"),
        ("tokens", ["<pad>", "<bos>", "<eos>", "<unk>", "a", "a"], "expected each token once"),
        ("tokens", ["<pad>", "<bos>", "<eos>", "<unk>", "b"], "do not match its digest"),
        ("min_count", "3", "min_count: got '3'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    path = tmp_path / "v.json"
    write_vocabulary(path, build_vocabulary(dataset(), min_count=1))
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=message):
        read_vocabulary(path)


def test_a_threshold_above_every_count_is_refused() -> None:
    with pytest.raises(InputError, match="min_count"):
        build_vocabulary(dataset(), min_count=100)


def second(train: tuple[str, ...] = ("a zebra runs", "two zebras")) -> CaptionRecords:
    return dataset(train, ("the cat",))


def test_a_vocabulary_of_two_datasets_counts_both_train_splits() -> None:
    # a 3 + 1, runs 2 + 1, dog 2; all else 1: zebra is seen once in train, once in the first one's test
    vocabulary = build_vocabulary(dataset(), second(), min_count=2)
    assert vocabulary.tokens == ("<pad>", "<bos>", "<eos>", "<unk>", "a", "runs", "dog")
    assert build_vocabulary(dataset(), second(("zebra", "zebra")), min_count=2).tokens[4:] == ("a", "dog", "runs", "zebra")


def test_the_digest_of_two_datasets_covers_both_and_of_one_is_unchanged() -> None:
    alone, both = build_vocabulary(dataset(), min_count=1), build_vocabulary(dataset(), second(), min_count=1)
    changed = build_vocabulary(dataset(), second(("a zebra runs", "two cows")), min_count=1)
    assert len({alone.captions_digest, both.captions_digest, changed.captions_digest}) == 3
    assert build_vocabulary(dataset(), second(()), min_count=1) == alone


def test_two_datasets_without_a_frequent_token_are_both_named() -> None:
    with pytest.raises(InputError, match="toy and toy: min_count: got 100: no token occurs that often"):
        build_vocabulary(dataset(), second(), min_count=100)


def test_line_breaks_of_all_kinds_part_tokens_and_are_in_none() -> None:
    vocabulary = build_vocabulary(dataset(("a\u2028dog", "a\rdog", "a\x0cdog", "a\r\ndog")), min_count=4)
    assert vocabulary.tokens[4:] == ("a", "dog")
