"""`seesay predict` and `seesay bundle`, as a person types them."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import seesay
from seesay.cli import main
from seesay.core.files import atomic_directory
from seesay.core.paths import Paths
from seesay.serving.bundle import model_card, write_bundle
from seesay.serving.gather import gather_bundle


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def test_a_folder_is_answered_by_each_model(here, pictures, capsys):
    folder = pictures[0].parent
    assert run("predict", folder, "--model", "resnet9", "--model", "captioners/on_grid", "--top", "2") == 0
    shown = capsys.readouterr().out
    for path in pictures:
        assert f"{path}\n" in shown
    first = seesay.load("resnet9")(pictures[0])[0]
    assert f"{pictures[0]}\n  {first.score:6.1%}  {first.label}\n" in shown
    assert f"  {seesay.load('on_grid')(pictures[0])[0].text}\n" in shown


def test_all_answers_can_be_written_as_json_and_as_a_table(here, pictures, tmp_path, capsys):
    written, table = tmp_path / "answers.json", tmp_path / "answers.csv"
    models = ("--model", "resnet9", "--model", "on_grid")
    options = ("--top", "2", "--captions", "3", "--json", written, "--csv", table, "--batch-size", "2")
    assert run("predict", *pictures[:3], *models, *options) == 0
    expected = seesay.load("on_grid")(pictures[2], num_captions=3)
    last = json.loads(written.read_text())[2]
    assert last["image"] == str(pictures[2])
    assert [one["caption"] for one in last["answers"]["on_grid"]] == [one.text for one in expected]
    assert [sorted(one) for one in last["answers"]["resnet9"]] == [["label", "score", "wnid"]] * 2
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 3 * (2 + 3)
    assert [row["caption"] for row in rows[-3:]] == [one.text for one in expected]
    capsys.readouterr()
    assert run("predict", pictures[0], "--model", "resnet9", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)[0]["image"] == str(pictures[0])


def test_an_unreadable_file_is_one_warning_and_the_rest_is_answered(here, pictures, tmp_path, capsys):
    (tmp_path / "words.jpg").write_text("words")
    shutil.copyfile(pictures[0], tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture by its name")
    assert run("predict", tmp_path, "--model", "resnet9", "--json", tmp_path / "found.json") == 1
    said = capsys.readouterr()
    assert f"seesay: warning: {tmp_path / 'words.jpg'}: not a readable image" in said.err
    assert "1 of 2 pictures could not be read" in said.err
    assert "notes.txt" not in said.out + said.err
    assert [sorted(one) for one in json.loads((tmp_path / "found.json").read_text())] == [
        ["answers", "image"],
        ["error", "image"],
    ]


def test_the_evidence_is_saved_for_each_class_and_word(here, pictures, tmp_path):
    shutil.copyfile(pictures[0], tmp_path / "a picture.png")
    models = ("--model", "resnet9", "--model", "on_grid", "--model", "on_vectors")
    assert run("predict", tmp_path / "a picture.png", *models, "--top", "1", "--explain", tmp_path / "seen") == 0
    words = seesay.load("on_grid")(pictures[0])[0].words
    names = sorted(path.name.split("a_picture.png.")[1] for path in (tmp_path / "seen").iterdir())
    label = seesay.load("resnet9")(pictures[0])[0].label
    assert names == sorted([f"resnet9.01-{label}.png", *(f"on_grid.{i:02}-{w}.png" for i, w in enumerate(words, 1))])
    assert all(Image.open(path).size == (32, 32) for path in (tmp_path / "seen").iterdir())


def test_what_is_released_answers_where_no_model_is_named(trained, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("predict", pictures[0]) == 1
    assert "no model is released here: name one with --model" in capsys.readouterr().err
    demo = Paths(tmp_path / ".work/demo")
    with atomic_directory(demo.released) as released:
        for section, cell in (("classifiers", "resnet9"), ("captioners", "on_grid"), ("autoencoders", "conv")):
            bundle = gather_bundle(trained, section, cell)
            write_bundle(released / cell, bundle, model_card(bundle.config))
    assert run("predict", pictures[0], "--json", "-") == 0
    assert sorted(json.loads(capsys.readouterr().out)[0]["answers"]) == ["on_grid", "resnet9"]


def test_wrong_options_are_one_clear_error(here, pictures, tmp_path, capsys):
    cases = [
        (["predict", pictures[0], "--model", "conv"], "conv: an autoencoder says nothing"),
        (["predict", pictures[0], "--model", "resnet9", "--captions", "2"], "none of the models is a captioner"),
        (["predict", pictures[0], "--model", "on_grid", "--captions", "9"], "expected at most 3"),
        (["predict", tmp_path, "--model", "resnet9"], "no pictures in this folder"),
        (["predict", pictures[0], "--model", "resnet9", "--device", "tpu9"], "device: got 'tpu9'"),
        (["predict", pictures[0], "--model", "resnet99"], "did you mean resnet9?"),
    ]
    for arguments, message in cases:
        assert run(*arguments) == 1
        said = capsys.readouterr()
        assert message in said.err, said.err
        assert len(said.err.splitlines()) == 1


def test_a_bundle_is_written_where_asked(trained, pictures, tmp_path, monkeypatch, capsys):
    root = tmp_path / "workspace"
    shutil.copytree(trained, root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(root)
    assert run("bundle", "on_grid", "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out == f"captioners/on_grid: {tmp_path / 'out'}\n"
    assert seesay.load(tmp_path / "out")(pictures) == seesay.load("on_grid")(pictures)
    capsys.readouterr()
    for command, folder in (("bundle", "."), ("bundle", "models"), ("export", "models")):
        assert run(command, "captioners/on_grid", "--out", folder) == 1
        assert f"{root / folder}: expected a new folder, or one with no more than " in capsys.readouterr().err
    assert (root / "models/captioners/on_grid").is_dir()
    assert run("bundle", "nothing") == 1
    assert "got the model 'nothing': expected one of classifiers/resnet9" in capsys.readouterr().err
