import json
from pathlib import Path

import numpy as np
import pytest

from seesay.captioning.data.records import CaptionRecord, CaptionRecords, collect_records
from seesay.captioning.features.origin import fetched_origin, trained_origin
from seesay.captioning.features.rows import FeatureRows
from seesay.captioning.features.store import Features, read_features, write_features
from seesay.core.errors import InputError
from seesay.params import datasets
from seesay.params.training import ResizedCrop
from seesay.sources.provenance import SourceFile, SourceNote, write_architecture, write_source

WEIGHTS = SourceNote(
    "net", (SourceFile("net.pth", "http://example.org/net.pth", "a" * 64, 9, "sha256-prefix:" + "b" * 8, True),)
)
SETTINGS = datasets.Features(
    dataset="toy",
    encoder="weights/net",
    image_size=64,
    resize_size=72,
    grid_size=2,
    batch_size=2,
    num_workers=0,
)


def dataset(num_images: int = 3) -> CaptionRecords:
    splits = ("train", "val", "test")
    records = [CaptionRecord(n, f"{n}.jpg", "", splits[n % 3], ("a dog",), 1, 1) for n in range(num_images)]
    return collect_records("toy", records, SourceNote("toy", ()))


POOLED = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
GRID = np.arange(48, dtype=np.float32).reshape(3, 4, 4) / 16


def write(
    folder: Path,
    captions: CaptionRecords,
    pooled: np.ndarray = POOLED,
    grid: np.ndarray | None = GRID,
    num_components: int | None = None,
    views: datasets.Views | None = None,
) -> tuple[Features, dict[str, float]]:
    write_source(folder / "weights", WEIGHTS)
    write_architecture(folder / "weights", "tiny")
    found = {"pooled": pooled} | ({} if grid is None else {"grid": grid})
    shapes = {kind: array.shape for kind, array in found.items()}
    names = [record.file_name for record in captions.records]
    rows = FeatureRows(folder / "scratch", shapes, fingerprint_parts=["a test"], names=names)
    rows.write(0, found)
    return write_features(
        folder / "features",
        rows.finish(),
        captions,
        SETTINGS.model_copy(update={"num_components": num_components, "views": views}),
        fetched_origin(folder / "weights"),
        {"mean": (float(np.float32(0.485)), 0.5, 0.5), "std": (1.0, 1.0, 1.0)},
    )


def test_features_are_read_back_as_float16_maps(tmp_path: Path) -> None:
    written, metrics = write(tmp_path, dataset())
    features = read_features(tmp_path / "features", dataset())
    assert features.grid is not None
    for array, expected in ((features.pooled, POOLED), (features.grid, GRID)):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, expected)
    assert (len(features), features.num_dimensions) == (3, 4)
    assert features.index == written.index
    assert metrics == {}


def test_a_captioner_sees_what_it_looks_at(tmp_path: Path) -> None:
    features, _ = write(tmp_path, dataset())
    np.testing.assert_array_equal(features.array("pooled"), POOLED)
    np.testing.assert_array_equal(features.array("grid"), GRID)


def test_features_without_a_grid_say_so_when_one_is_asked_for(tmp_path: Path) -> None:
    features, _ = write(tmp_path, dataset(), grid=None)
    assert features.grid is None
    with pytest.raises(InputError, match=r"features: has no grid; .* needs features with a grid_size"):
        features.array("grid")


def test_what_has_been_written_is_what_was_made_also_on_disk(tmp_path: Path) -> None:
    write(tmp_path, dataset())
    names = ["grid.npy", "index.json", "pooled.npy"]
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == names
    # The scratch folder's copies may go.
    for path in (tmp_path / "scratch").iterdir():
        path.unlink()
    read_features(tmp_path / "features", dataset())


TWO_VIEWS = datasets.Views(count=2, crop=ResizedCrop(min_area=0.5, max_area=1.0, max_aspect=1.0), flip=True, seed=0)


def write_with_views(folder: Path) -> Features:
    """Of four images the first two are in train: rows 4 and 5 are their first views, 6 and 7 their second."""
    rows = np.arange(8, dtype=np.float32)[:, None] * np.ones(4, dtype=np.float32)
    return write(folder, dataset(4), rows, None, views=TWO_VIEWS)[0]


def test_views_follow_the_images_and_are_not_counted_as_images(tmp_path: Path) -> None:
    assert [record.split for record in dataset(4).records] == ["train", "train", "val", "test"]
    assert write_with_views(tmp_path).index.num_views == 2
    features = read_features(tmp_path / "features", dataset(4))
    assert (len(features), len(features.pooled), features.viewed.tolist()) == (4, 8, [0, 1])
    assert (features.report()["num_images"], features.report()["num_views"]) == (4, 2)


def test_an_image_of_train_is_itself_or_one_of_its_views_equally_often(
    tmp_path: Path,
) -> None:
    """Images of other splits are always themselves."""
    features = write_with_views(tmp_path)
    rows = np.repeat(np.arange(4), 3_000)
    varied = features.sample_views(rows, generator=np.random.default_rng(0)).reshape(4, 3_000)
    for image, expected in enumerate(([0, 4, 6], [1, 5, 7], [2], [3])):
        found, counts = np.unique(varied[image], return_counts=True)
        assert found.tolist() == expected
        assert counts.min() > 3_000 / len(expected) * 0.9


def test_without_views_nothing_varies_and_no_chance_is_taken(tmp_path: Path) -> None:
    features, _ = write(tmp_path, dataset())
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    assert features.sample_views(np.array([2, 0, 0]), generator=generator).tolist() == [2, 0, 0]
    assert generator.bit_generator.state == before
    assert "num_views" not in features.report()


def test_rows_that_do_not_fit_the_number_of_views_are_refused(tmp_path: Path) -> None:
    write_with_views(tmp_path)
    path = tmp_path / "features/index.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "num_views": 1}))
    with pytest.raises(InputError, match=r"pooled\.npy: got float16 \(8, 4\): expected float16 \(6, 4\)"):
        read_features(tmp_path / "features", dataset(4))


def test_the_report_names_encoder_weights_sizes_and_dataset(tmp_path: Path) -> None:
    report = write(tmp_path, dataset())[0].report()
    assert report["source"] == WEIGHTS.to_json()
    assert report["substitutes"] == ["net.pth"]
    assert report["encoder"] == "weights/net"
    assert report["architecture"] == "tiny"
    assert report["transform"] == {
        "resize_size": 72,
        "image_size": 64,
        "mean": [0.485, 0.5, 0.5],
        "std": [1.0, 1.0, 1.0],
    }
    assert (report["num_images"], report["num_dimensions"], report["num_places"]) == (3, 4, 4)
    assert report["dataset_digest"] == dataset().digest
    assert report["trained_on"] is None
    json.dumps(report)


def test_a_classifier_of_ours_is_named_with_the_images_it_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "0.pt").write_bytes(b"weights")
    origin = trained_origin(tmp_path / "0.pt", "resnet9", "resnet9", "tiny30", "d" * 64)
    assert origin.trained_on == {"dataset": "tiny30", "digest": "d" * 64}
    assert origin.weights.files[0].url == "generated:resnet9"
    assert origin.weights.substitutes == ()
    assert origin.digest == origin.weights.files[0].sha256


def test_weights_of_several_files_are_refused(tmp_path: Path) -> None:
    write_source(tmp_path, SourceNote("net", WEIGHTS.files * 2))
    write_architecture(tmp_path, "tiny")
    with pytest.raises(InputError, match=r"source\.json: names 2 files"):
        fetched_origin(tmp_path)


def test_features_of_another_dataset_are_refused(tmp_path: Path) -> None:
    write(tmp_path, dataset())
    with pytest.raises(InputError, match="these are features of toy"):
        read_features(tmp_path / "features", dataset(4))


def changed(kind: str) -> np.ndarray:
    """The right array but for one bit of one value."""
    array = {"pooled": POOLED, "grid": GRID}[kind].astype(np.float16)
    array.view(np.uint16)[1, 2] ^= 1
    return array


@pytest.mark.parametrize("kind", ["pooled", "grid"])
@pytest.mark.parametrize("damage", ["absent", "empty", "truncated", "header", "rows", "dtype", "nan", "inf", "bit"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str, damage: str) -> None:
    write(tmp_path, dataset())
    path = tmp_path / f"features/{kind}.npy"
    right, content = np.load(path), path.read_bytes()
    path.unlink()
    if damage in ("nan", "inf"):
        right[2, 1] = float(damage)
    arrays = {"rows": right[:2], "dtype": right.astype(np.float32), "nan": right, "inf": right, "bit": changed(kind)}
    contents = {"empty": b"", "truncated": content[:-5], "header": b"\x93NUMPX" + content[6:]}
    if damage in arrays:
        np.save(path, arrays[damage])
    elif damage in contents:
        path.write_bytes(contents[damage])
    says = {"dtype": "expected float16", "rows": "expected float16", "nan": "not finite", "inf": "not finite"}
    with pytest.raises(InputError, match=rf"{kind}\.npy: .*{says.get(damage, '')}.*run extract_features again"):
        read_features(tmp_path / "features", dataset())


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path, dataset())
    path = tmp_path / "features/index.json"
    content = json.loads(path.read_text())
    for key, value, match in (
        ("image_ids", [2, 1, 0], "image ids"),
        ("schema_version", 1, r"index\.json: schema_version: expected 3"),
        ("shape", None, r"index\.json: shape"),
        ("grid_shape", [3, 4], r"index\.json: grid_shape"),
        ("num_components", "many", r"index\.json: num_components"),
        ("num_views", -1, r"index\.json: num_views: got -1"),
    ):
        path.write_text(json.dumps({**content, key: value}))
        with pytest.raises(InputError, match=match):
            read_features(tmp_path / "features", dataset())


@pytest.mark.parametrize("kind", ["pooled", "grid"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path, kind: str, value: float) -> None:
    """Nothing is written."""
    arrays = {"pooled": POOLED.copy(), "grid": GRID.copy()}
    arrays[kind].reshape(3, -1)[1, 2] = value
    name = dataset().records[1].file_name
    with pytest.raises(InputError, match=f"{kind} features are not finite in float16 for these images: {name}"):
        write(tmp_path, dataset(), **arrays)
    assert not (tmp_path / "features").exists()


def test_components_lie_beside_and_say_how_much_they_keep(tmp_path: Path) -> None:
    captions = dataset(12)  # four of them in train, the first rows
    random = np.random.default_rng(0)
    pooled, grid = random.normal(size=(12, 5)), random.normal(size=(12, 4, 5))
    features, metrics = write(tmp_path, captions, pooled, grid, num_components=2)
    assert features.pooled.shape == (12, 2)
    assert features.array("grid").shape == (12, 4, 2)
    assert (features.num_dimensions, features.index.num_components) == (2, 2)
    assert set(metrics) == {"pooled/explained_variance", "grid/explained_variance"}
    with np.load(tmp_path / "features/pca.npz") as stored:
        assert {name: stored[name].shape for name in stored.files} == {
            "pooled_mean": (5,),
            "pooled_axes": (2, 5),
            "grid_mean": (5,),
            "grid_axes": (2, 5),
        }
        expected = (pooled.astype(np.float16) - stored["pooled_mean"]) @ stored["pooled_axes"].T
    np.testing.assert_allclose(features.pooled, expected, atol=2e-3)


def test_components_come_from_the_train_split_alone(tmp_path: Path) -> None:
    captions = dataset(12)
    pooled = np.random.default_rng(0).normal(size=(12, 5))
    other = pooled.copy()
    other[captions.rows("val") + captions.rows("test")] *= 100.0
    write(tmp_path / "one", captions, pooled, None, num_components=2)
    write(tmp_path / "two", captions, other, None, num_components=2)
    assert (tmp_path / "one/features/pca.npz").read_bytes() == (tmp_path / "two/features/pca.npz").read_bytes()
