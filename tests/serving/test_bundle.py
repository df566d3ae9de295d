"""Bundles: a model in a folder, which loads without the workspace and refuses what was changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.conftest import CAPTIONERS

import seesay
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.serving.bundle import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, model_card, read_bundle, write_bundle
from seesay.serving.gather import find_cell, gather_bundle

MODELS = [("classifiers", "resnet9"), ("autoencoders", "conv"), ("captioners", "ensemble")]
MODELS += [("captioners", name) for name in CAPTIONERS]


def bundle_of(root: Path, section: str, cell: str, folder: Path) -> Path:
    bundle = gather_bundle(root, section, cell, run={"commit": "abc"})
    write_bundle(folder, bundle, model_card(bundle.config))
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return bundle_of(trained, "classifiers", "resnet9", tmp_path / "resnet9")


@pytest.mark.parametrize(("section", "cell"), MODELS)
def test_a_bundle_says_what_the_model_in_the_workspace_says(trained, pictures, tmp_path, section, cell):
    end = ".pt" if section == "autoencoders" else ""
    in_workspace = seesay.load(trained / f"models/{section}/{cell}{end}")
    bundled = seesay.load(bundle_of(trained, section, cell, tmp_path / cell))
    assert bundled(pictures) == in_workspace(pictures)
    assert str(trained) not in (tmp_path / cell / CONFIG_FILE).read_text()


def test_equal_models_give_equal_bundles(trained, folder, tmp_path):
    again = bundle_of(trained, "classifiers", "resnet9", tmp_path / "again")
    for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert not (tmp_path / "again" / "0.pt").exists()


def test_a_bundle_needs_the_package_alone(trained, pictures, tmp_path):
    """Neither the repository nor MLflow and DVC, and it unpickles nothing."""
    folder = bundle_of(trained, "captioners", "on_grid", tmp_path / "elsewhere/on_grid")
    script = (
        "import pickle, sys\n"
        "sys.modules['mlflow'] = sys.modules['dvc'] = None\n"
        "def refuse(*_, **__): raise AssertionError('unpickled')\n"
        "import torch, seesay\n"
        "torch.load = pickle.load = pickle.loads = refuse\n"
        "print(seesay.load(sys.argv[1])(sys.argv[2])[0].text)\n"
    )
    command = [sys.executable, "-c", script, str(folder), str(pictures[0])]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == seesay.load(trained / "models/captioners/on_grid")(pictures[0])[0].text


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_file_that_was_changed_or_cut_short_is_refused(folder, name):
    whole = (folder / name).read_bytes()
    changed = (whole.replace(b"0.5", b"0.9", 1), bytes([*whole[:-9], 1, *whole[-8:]]))
    for damaged in (whole[:-9], whole[:100], b"", *changed):
        if damaged == whole:
            continue
        (folder / name).write_bytes(damaged)
        with pytest.raises(InputError, match=name):
            seesay.load(folder)
    (folder / name).unlink()
    with pytest.raises(InputError):
        seesay.load(folder)


def test_a_config_that_states_its_own_digest_is_still_checked(folder):
    content = json.loads((folder / CONFIG_FILE).read_text())
    content["classes"][0]["label"] = "another"
    (folder / CONFIG_FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match="its digest does not match"):
        read_bundle(folder)
    content["format"] = "seesay-bundle-99"
    (folder / CONFIG_FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match="expected the format 'seesay-bundle-1'"):
        read_bundle(folder)


def test_the_card_states_use_limits_data_and_metrics(folder, trained):
    card = (folder / CARD_FILE).read_text()
    assert "| top-1 accuracy | 0.5 | 0.4 to 0.6 |" in card
    assert "red, green, blue, yellow, purple, grey" in card
    assert all(f"\n## {heading}\n" in card for heading in ("Use", "Limits", "Data", "Metrics", "Licences", "Run"))
    captioner = model_card(gather_bundle(trained, "captioners", "on_grid").config)
    assert "Substitutes, not known to be the official files: images.zip, weights.pth." in captioner
    assert "Not evaluated." in captioner


def test_a_model_is_found_by_its_name(trained, monkeypatch):
    assert find_cell(trained, "resnet9") == find_cell(trained, "classifiers/resnet9") == ("classifiers", "resnet9")
    assert find_cell(trained, "ensemble") == ("captioners", "ensemble")
    with pytest.raises(InputError, match=r"'resnet': expected one of classifiers/resnet9, captioners/.*did you mean"):
        find_cell(trained, "resnet")
    with pytest.raises(InputError, match="no model is trained in"):
        find_cell(trained / "data", "resnet9")
    monkeypatch.chdir(trained)
    for source in (
        "resnet9",
        "classifiers/resnet9",
        "models/classifiers/resnet9/0.pt",
        "./models/classifiers/resnet9/",
    ):
        assert seesay.load(source).name == "resnet9"
    for source, message in (("data", "data: not a bundle"), ("https://x/y", "expected a folder")):
        with pytest.raises(InputError, match=message):
            seesay.load(source)


def test_features_of_other_weights_are_noticed(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(trained, root)
    source = Paths(root).weights("test_efficientnet") / "source.json"
    source.write_text(source.read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(InputError, match="run extract_features@published again"):
        gather_bundle(root, "captioners", "on_grid")


def test_importing_seesay_imports_no_library():
    code = "import sys, seesay; print(sorted({'torch', 'numpy', 'mlflow', 'pandas'} & set(sys.modules)), dir(seesay))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True, env=environment)
    assert done.stdout.startswith("[] ")
    assert "'load'" in done.stdout
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = seesay.lode
