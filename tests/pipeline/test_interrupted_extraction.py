"""A real stage, killed in the middle of a real process, keeps its finished rows and ends in the same result."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seesay.captioning.data.records import CaptionRecord, collect_records, read_caption_records, write_caption_records
from seesay.captioning.features.store import read_features
from seesay.core.files import read_json
from seesay.core.paths import Paths
from seesay.sources.provenance import SourceNote, write_architecture, write_source

STAGES = Path(__file__).resolve().parents[2] / "stages"
NUM_IMAGES = 60
PARAMS = """
runtime: {device: cpu, precision: float32, num_threads: 1, deterministic: true, compile: false}
features:
  toy:
    {dataset: toy, encoder: weights/small_cnn, image_size: 32,
     resize_size: 32, grid_size: 2, num_components: 5, batch_size: 3, num_workers: 1}
"""
SCRIPT = f"""
import sys, time
sys.path.insert(0, {str(STAGES)!r})
from extract_features import main
from seesay.captioning.data.records import CaptionImages

read, seconds = CaptionImages.__getitem__, float(sys.argv[1])

def slowly(images, row):
    time.sleep(seconds)
    return read(images, row)

CaptionImages.__getitem__ = slowly
main("toy")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    paths, random = Paths(tmp_path), np.random.default_rng(0)
    folder = paths.raw_captions("toy")
    folder.mkdir(parents=True)
    records = []
    for image_id in range(NUM_IMAGES):
        pixels = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{image_id}.png")
        split = ("train", "val", "test")[image_id % 3]
        records.append(CaptionRecord(image_id, f"{image_id}.png", "", split, ("a dog",), 48, 40))
    write_caption_records(paths.captions("toy"), collect_records("toy", records, SourceNote("toy", ())))
    write_architecture(paths.weights("small_cnn"), "small_cnn")
    write_source(paths.weights("small_cnn"), SourceNote("small_cnn", ()))
    paths.params.write_text(PARAMS)
    (tmp_path / "main.py").write_text(SCRIPT)
    return tmp_path


def start(root: Path, seconds: float, python: Path = Path(sys.executable)) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SEESAY_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(python), "main.py", str(seconds)], cwd=root, env=environment)


def wait_for_rows(root: Path, process: subprocess.Popen[bytes]) -> Path:
    """Wait for the first rows on disk, and return the path of the note about them."""
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        notes = list((root / ".work").glob("*/progress.json"))
        if notes:
            return notes[0]
        time.sleep(0.02)
    raise AssertionError("no rows were written in time")


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Paths(root).features("toy").iterdir()}


def test_a_killed_extraction_is_resumed_and_ends_in_the_same_bytes(root: Path, python_of_workspace: Path) -> None:
    """State is of the code that is imported, so no process here has more of it imported than it needs."""
    assert start(root, 0.0, python_of_workspace / "python").wait(timeout=600) == 0
    undisturbed = content(root)
    assert sorted(undisturbed) == ["grid.npy", "index.json", "pca.npz", "pooled.npy"]

    folder = Paths(root).features("toy")
    shutil.rmtree(folder)  # as DVC does before a stage runs
    process = start(root, 0.08)  # an ordinary process, so that the killed process is the one that computes
    note = wait_for_rows(root, process)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    num_done = read_json(note)["num_rows"]
    assert 0 < num_done < NUM_IMAGES
    assert num_done % 3 == 0
    assert not folder.exists()
    rows = np.load(note.parent / "pooled.npy", mmap_mode="r")
    assert np.abs(rows[:num_done]).sum(axis=1).all()  # the rows that the note counts are on disk

    # If the deleted image were read again, the run would fail.
    captions = read_caption_records(Paths(root).captions("toy"))
    (Paths(root).raw_captions("toy") / captions.records[0].file_name).unlink()
    assert start(root, 0.0, python_of_workspace / "python").wait(timeout=600) == 0
    assert content(root) == undisturbed
    assert not list((root / ".work").iterdir())
    assert read_features(folder, captions).array("grid").shape == (NUM_IMAGES, 4, 5)
    metrics = read_json(Paths(root).metrics("extract_features", "toy"))
    assert {"num_images", "num_dimensions", "pooled/explained_variance", "grid/explained_variance"} == set(metrics)
