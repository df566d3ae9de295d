"""The stages that make records and vocabularies, run as DVC runs them: as scripts, in the workspace's root."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.captioning.data.own_captions import own_source, split_of, write_annotations, write_archive

from seesay.core.paths import Paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with two sources of a person's own; the second is learning from the first's test image 21."""
    home = tmp_path / "home"
    first = own_source(home)
    write_annotations(home / "other.json", {5: ["a zebra"], 6: ["picture six"], 21: ["picture again"]})
    write_archive(home / "other.zip", (5, 6, 21))
    second = first.model_copy(update={"train": split_of(home / "other.json", home / "other.zip")})
    write_annotations(home / "other_test.json", {31: ["unseen words"]})
    second = second.model_copy(
        update={"test": split_of(home / "other_test.json", write_archive(home / "ot.zip", (31,)))}
    )
    limits = {"max_undecodable": 0, "max_missing_images": 0, "max_empty_captions": 0}
    dataset = {"limits": limits}
    content = {
        "tracking": {"experiment_prefix": ""},
        "caption_sources": {"one": first.model_dump(exclude_none=True), "two": second.model_dump(exclude_none=True)},
        "caption_datasets": {"one": dataset, "two": dataset},
        "vocabularies": {
            "alone": {"datasets": ["one"], "min_count": 1},
            "both": {"datasets": ["one", "two"], "min_count": 1},
        },
    }
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(content, file)
    return tmp_path


def run_stage(root: Path, stage: str, cell: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SEESAY_TRACKING": "off", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(ROOT / f"stages/{stage}.py"), cell]
    return subprocess.run(command, cwd=root, env=environment, text=True, check=False, capture_output=True)


def done(root: Path, stage: str, cell: str) -> dict[str, Any]:
    """The metrics of a stage that went well; {} where it has none."""
    result = run_stage(root, stage, cell)
    assert result.returncode == 0, result.stderr
    path = Paths(root).metrics(stage, cell)
    return json.loads(path.read_text()) if path.exists() else {}


def test_a_vocabulary_of_two_datasets_says_what_each_split_lacks(root: Path) -> None:
    """It also says which images the two datasets share."""
    for cell in ("one", "two"):
        done(root, "fetch_captions", cell)
        done(root, "prepare_captions", cell)
    alone, both = done(root, "build_vocabulary", "alone"), done(root, "build_vocabulary", "both")
    splits = [f"{split}/out_of_vocabulary" for split in ("train", "val", "test")]
    assert sorted(alone) == sorted(["num_tokens", *splits])
    assert sorted(both) == sorted([*alone, *(f"two/{key}" for key in splits), "two/train/num_images_held_out"])
    # four special ones, picture and 1..4; with a, zebra, six and again
    assert (alone["num_tokens"], both["num_tokens"]) == (9, 13)
    assert (both["test/out_of_vocabulary"], both["two/test/out_of_vocabulary"]) == (0.5, 1.0)
    assert both["two/train/num_images_held_out"] == 1
    written = json.loads(Paths(root).vocabulary("both").read_text())
    assert written["tokens"][:5] == ["<pad>", "<bos>", "<eos>", "<unk>", "picture"]
    assert set(written) == {"schema_version", "tokenizer_version", "min_count", "captions_digest", "digest", "tokens"}


def test_a_persons_file_that_changed_ends_the_stage_with_one_line(root: Path) -> None:
    done(root, "fetch_captions", "one")
    shutil.copyfile(root / "home/other.json", root / "home/train.json")
    result = run_stage(root, "fetch_captions", "one")
    assert result.returncode != 0
    assert len(result.stderr.strip().splitlines()) == 1
    assert "caption_sources.one.train.annotations.checksum: expected sha256:" in result.stderr


def test_no_output_of_a_stage_says_where_a_persons_files_lie(root: Path) -> None:
    done(root, "fetch_captions", "one")
    done(root, "prepare_captions", "one")
    paths = Paths(root)
    outputs = [*paths.raw_captions("one").glob("*.json"), *paths.captions("one").iterdir()]
    for path in [*outputs, paths.data_report("prepare_captions", "one")]:
        assert str(root) not in path.read_text(), path
