"""The walk-through for a user's own photos does what it says: its settings run through the stages' scripts."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import Paths

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"ball": 40, "boat": 18, "car": 10, "house": 6}


def document() -> str:
    return (ROOT / "docs/own-images.md").read_text(encoding="utf-8")


def write_photos(folder: Path) -> None:
    """Write four uneven classes in many modes and sizes, an unreadable file, a copy, and a picture in two classes."""
    rng = np.random.default_rng(0)
    for label, (name, count) in enumerate(COUNTS.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            width, height = (int(side) for side in rng.integers(40, 160, 2))
            pixels = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
            pixels[:, :, label % 3] += np.uint8(90 if label < 3 else 10)
            mode, suffix = (("RGB", "jpg"), ("L", "png"), ("RGBA", "png"), ("P", "png"), ("CMYK", "jpg"))[number % 5]
            Image.fromarray(pixels).convert(mode).save(folder / name / f"IMG_{number:04d}.{suffix}")
    (folder / "ball/copy.jpg").write_bytes((folder / "ball/IMG_0000.jpg").read_bytes())
    (folder / "car/boat.jpg").write_bytes((folder / "boat/IMG_0000.jpg").read_bytes())
    (folder / "house/broken.jpg").write_bytes((folder / "house/IMG_0000.jpg").read_bytes()[:900])


def without_numbers(text: str) -> str:
    return re.sub(r"\d+", "N", text)


def stage(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / f"stages/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_params(root: Path, shown: str, **changes: str) -> None:
    """Write the repository's params.yaml with the entries that the document shows, in fewer epochs."""
    yaml = YAML(typ="safe", pure=True)
    params: dict[str, Any] = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for old, new in changes.items():
        assert old in shown
        shown = shown.replace(old, new)
    for section, entries in yaml.load(shown).items():
        params[section] |= entries
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def test_the_walk_through_trains_and_evaluates_and_says_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    root = tmp_path / "seesay"
    root.mkdir()
    write_photos(tmp_path / "photos")
    blocks = re.findall(r"^```\w*\n(.*?)^```", document(), re.MULTILINE | re.DOTALL)
    shown = next(block for block in blocks if block.startswith("image_sources:\n  my_photos"))

    write_params(root, shown, **{"epochs: 20": "epochs: 3"})
    stage("fetch_images").main("my_photos", root)
    with pytest.raises(InputError) as caught:
        stage("prepare_images").main("my_photos", root)
    refused = next(block for block in blocks if "undecodable images;" in block)
    for line in str(caught.value).splitlines():
        assert without_numbers(line.removeprefix(f"{root}/")) in without_numbers(refused)

    limits = re.search(r"`limits: (\{.*?\})`", document())
    assert limits is not None
    strict = "limits: {max_undecodable: 0, max_left_out_per_class: 0}"
    write_params(root, shown, **{"epochs: 20": "epochs: 3", strict: f"limits: {limits[1]}"})
    stage("prepare_images").main("my_photos", root)
    said = next(block for block in blocks if block.startswith("my_photos: train"))
    assert without_numbers(capsys.readouterr().out) == without_numbers(said)
    report = read_json(Paths(root).data_report("prepare_images", "my_photos"))
    assert [item["member"] for item in report["undecodable"]] == ["house/broken.jpg"]
    left_out = [item["member"] for item in report["left_out"]]
    assert left_out == ["ball/copy.jpg", "boat/IMG_0000.jpg", "car/boat.jpg"]
    assert sum(report["num_images"].values()) == sum(COUNTS.values()) - 1

    stage("train_classifier").main("my_resnet9", root)
    stage("evaluate_classifier").main("my_resnet9", root)
    metrics = read_json(Paths(root).metrics("evaluate_classifier", "my_resnet9"))
    named = set(re.findall(r"`((?:test|val)/\w+)`", document()))
    assert {"test/macro_f1", "val/macro_f1"} <= named <= set(metrics)
    assert 0.0 < metrics["test/balanced_accuracy"] <= 1.0
