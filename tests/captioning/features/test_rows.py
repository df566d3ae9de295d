import os
from pathlib import Path

import numpy as np
import pytest

from seesay.captioning.features import rows as feature_rows
from seesay.captioning.features.rows import FeatureRows, link_array
from seesay.core.files import read_json

SHAPES = {"pooled": (6, 3), "grid": (6, 4, 3)}
NAMES = [f"{row}.jpg" for row in range(6)]


def batch(start: int, size: int = 2) -> dict[str, np.ndarray]:
    pooled = np.arange(start * 3, (start + size) * 3, dtype=np.float32).reshape(size, 3)
    return {"pooled": pooled, "grid": np.repeat(pooled[:, None], 4, axis=1)}


def rows_in(
    folder: Path, *, fingerprint_parts: str = "one", shapes: dict[str, tuple[int, ...]] = SHAPES
) -> FeatureRows:
    return FeatureRows(folder, shapes, fingerprint_parts=[fingerprint_parts], names=NAMES)


@pytest.fixture(autouse=True)
def _no_time_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_rows, "SECONDS_BETWEEN", 0.0)


def test_rows_of_a_killed_extraction_are_there_again(tmp_path: Path) -> None:
    rows = rows_in(tmp_path)
    rows.write(0, batch(0))
    rows.write(2, batch(2))
    del rows
    again = rows_in(tmp_path)
    assert again.num_done == 4
    again.write(4, batch(4))
    for kind, path in again.finish().items():
        np.testing.assert_array_equal(np.load(path), batch(0, 6)[kind])


def test_interrupted_or_not_the_bytes_are_the_same(tmp_path: Path) -> None:
    whole = rows_in(tmp_path / "whole")
    whole.write(0, batch(0, 6))
    for start in (0, 2, 4):
        rows_in(tmp_path / "parts").write(start, batch(start))
    for kind, path in whole.finish().items():
        assert path.read_bytes() == rows_in(tmp_path / "parts").finish()[kind].read_bytes()


def test_a_batch_counts_only_once_its_rows_are_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    flush, write = np.memmap.flush, feature_rows.write_json
    monkeypatch.setattr(np.memmap, "flush", lambda array: (order.append("rows"), flush(array)))
    monkeypatch.setattr(feature_rows, "write_json", lambda *arguments: (order.append("note"), write(*arguments)))
    rows_in(tmp_path).write(0, batch(0))
    assert order == ["rows", "rows", "note"]  # both arrays, then the note


def test_rows_not_noted_yet_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_in(tmp_path)
    rows.write(0, batch(0))
    monkeypatch.setattr(feature_rows, "SECONDS_BETWEEN", 1000.0)
    rows.write(2, batch(2))
    assert read_json(tmp_path / "progress.json")["num_rows"] == 2
    assert rows_in(tmp_path).num_done == 2


@pytest.mark.parametrize(
    "change", [{"fingerprint_parts": "other"}, {"shapes": {"pooled": (6, 3)}}, {"shapes": {"pooled": (6, 5)}}]
)
def test_rows_of_another_extraction_do_not_count(tmp_path: Path, change: dict[str, object]) -> None:
    rows_in(tmp_path).write(0, batch(0))
    with pytest.warns(UserWarning, match=r"progress\.json: belongs to another extraction"):
        assert rows_in(tmp_path, **change).num_done == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("fingerprint_parts", ["one", "other"])
def test_finished_arrays_that_dvc_has_linked_are_never_written_to(tmp_path: Path, fingerprint_parts: str) -> None:
    """DVC makes the files of its cache read-only; the scratch folder's may be links to them."""
    rows = rows_in(tmp_path)
    rows.write(0, batch(0, 6))
    path = rows.finish()["pooled"]
    cached = tmp_path / "cached.npy"
    os.link(path, cached)
    before = cached.read_bytes()
    if fingerprint_parts == "one":
        again = rows_in(tmp_path)
        assert again.num_done == 6
        assert not again._arrays["pooled"].flags.writeable
        again.finish()
    else:
        with pytest.warns(UserWarning, match="belongs to another extraction"):
            rows_in(tmp_path, fingerprint_parts="other").write(0, batch(2))
    assert cached.read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "array", "no array"])
def test_a_damaged_scratch_folder_is_started_anew(tmp_path: Path, damage: str) -> None:
    rows_in(tmp_path).write(0, batch(0))
    if damage == "text":
        (tmp_path / "progress.json").write_text("{")
    elif damage == "array":
        (tmp_path / "grid.npy").write_bytes(b"")
    else:
        (tmp_path / "grid.npy").unlink()
    with pytest.warns(UserWarning, match="starting over"):
        rows = rows_in(tmp_path)
    assert rows.num_done == 0
    rows.write(0, batch(0, 6))
    np.testing.assert_array_equal(np.load(rows.finish()["grid"]), batch(0, 6)["grid"])


def test_rows_out_of_turn_are_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        rows_in(tmp_path).write(2, batch(2))


def test_an_array_is_placed_also_where_links_do_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    link_array(tmp_path / "a.npy", tmp_path / "linked.npy")

    def no_link(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(feature_rows.os, "link", no_link)
    link_array(tmp_path / "a.npy", tmp_path / "copied.npy")
    assert (tmp_path / "linked.npy").read_bytes() == (tmp_path / "copied.npy").read_bytes()
