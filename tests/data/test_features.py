import json
from pathlib import Path

import numpy as np
import pytest

from seesay.data.caption_records import CaptionRecord, CaptionRecords, collect_records
from seesay.data.features import Features, read_features, write_features
from seesay.data.sources import SourceFile, SourceNote, write_source
from seesay.errors import InputError
from seesay.params import datasets

WEIGHTS = SourceNote(
    "net", (SourceFile("net.pth", "http://example.org/net.pth", "a" * 64, 9, "sha256-prefix:" + "b" * 8, True),)
)
SETTINGS = datasets.Features(dataset="toy", encoder="net", image_size=64, resize_size=72, batch_size=2, num_workers=0)


def dataset(num_images: int = 3) -> CaptionRecords:
    splits = ("train", "val", "test")
    records = [CaptionRecord(n, f"{n}.jpg", "", splits[n % 3], ("a dog",), 1, 1) for n in range(num_images)]
    return collect_records("toy", records, SourceNote("toy", ()))


def write(folder: Path, pooled: np.ndarray, captions: CaptionRecords) -> Features:
    write_source(folder / "weights", WEIGHTS)
    return write_features(
        folder / "features",
        pooled,
        captions,
        SETTINGS,
        folder / "weights",
        architecture="tiny",
        mean=(np.float32(0.485), 0.5, 0.5),
        std=(1.0, 1.0, 1.0),
    )


POOLED = np.arange(12, dtype=np.float32).reshape(3, 4) / 8


def test_features_are_read_back_as_a_float16_map(tmp_path: Path) -> None:
    written = write(tmp_path, POOLED, dataset())
    features = read_features(tmp_path / "features", dataset())
    assert isinstance(features.pooled, np.memmap)
    assert features.pooled.dtype == np.float16
    np.testing.assert_array_equal(features.pooled, POOLED)
    assert (len(features), features.num_dimensions) == (3, 4)
    assert features.index == written.index


def test_the_report_names_encoder_weights_sizes_and_dataset(tmp_path: Path) -> None:
    report = write(tmp_path, POOLED, dataset()).report()
    assert report["source"] == WEIGHTS.to_json()
    assert report["substitutes"] == ["net.pth"]
    assert report["architecture"] == "tiny"
    assert report["transform"] == {
        "resize_size": 72,
        "image_size": 64,
        "mean": [0.485, 0.5, 0.5],
        "std": [1.0, 1.0, 1.0],
    }
    assert (report["num_images"], report["num_dimensions"]) == (3, 4)
    assert report["dataset_digest"] == dataset().digest
    json.dumps(report)


def test_features_of_another_dataset_are_refused(tmp_path: Path) -> None:
    write(tmp_path, POOLED, dataset())
    with pytest.raises(InputError, match="these are features of toy"):
        read_features(tmp_path / "features", dataset(4))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, POOLED, dataset())
    path = tmp_path / "features/pooled.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"pooled\.npy"):
        read_features(tmp_path / "features", dataset())


@pytest.mark.parametrize("wrong", [POOLED.astype(np.float16)[:2], POOLED.astype(np.float16)[:, :3], POOLED])
def test_a_wrong_shape_or_type_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    write(tmp_path, POOLED, dataset())
    np.save(tmp_path / "features/pooled.npy", wrong)
    with pytest.raises(InputError, match=r"expected float16 \(3, 4\)"):
        read_features(tmp_path / "features", dataset())


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path, POOLED, dataset())
    path = tmp_path / "features/index.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "image_ids": [2, 1, 0]}))
    with pytest.raises(InputError, match="image ids"):
        read_features(tmp_path / "features", dataset())
    del content["shape"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"index\.json: shape"):
        read_features(tmp_path / "features", dataset())


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_float16_cannot_hold_are_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    pooled = POOLED.copy()
    pooled[1, 2] = value
    with pytest.raises(InputError, match="not finite in float16"):
        write(tmp_path, pooled, dataset())
    assert not (tmp_path / "features").exists()
