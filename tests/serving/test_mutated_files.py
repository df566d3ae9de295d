"""Files that a workspace or a person writes, damaged: each is read, or refused in one `InputError`."""

import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixtures.mutating import mutate, mutate_json

from seesay.captioning.data.records import read_caption_records
from seesay.captioning.explain import CaptionAttention, read_attention, write_attention
from seesay.captioning.features.store import read_features
from seesay.captioning.predictions import SPLIT_OF_SET, read_caption_predictions, write_caption_predictions
from seesay.captioning.score_files import score_files
from seesay.classification.predictions import (
    ClassPredictions,
    SplitPredictions,
    read_class_predictions,
    write_class_predictions,
)
from seesay.core.errors import InputError
from seesay.core.files import write_json, write_text
from seesay.core.paths import Paths
from seesay.images.image_folder import read_image_folder
from seesay.params.project import load_params
from seesay.plotting.curves import read_history
from seesay.report.rules import read_gates
from seesay.serving.bundle import _digest, read_bundle, write_bundle
from seesay.serving.gather import gather_bundle
from seesay.serving.load import build, load_named
from seesay.sources.members import ZipMembers
from seesay.tracking.records import ArtifactFile, DatasetUse, Point, RunRecord, read_record, write_record
from seesay.training.resume import Resumable

ROOT = Path(__file__).resolve().parents[2]

Damage = Callable[[bytes, random.Random], bytes]
Case = tuple[Path, Damage, Callable[[], object]]


def mutate_header(content: bytes, rng: random.Random) -> bytes:
    """Return a checkpoint with a mutated header; the archive's own checksums would give away changed bytes."""
    stored = torch.load(io.BytesIO(content), weights_only=True)
    stored["header"] = mutate_json(stored["header"].encode(), rng).decode()
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    return buffer.getvalue()


def mutate_state(content: bytes, rng: random.Random) -> bytes:
    """Return a training state without one of its parts, or with an odd one."""
    stored = torch.load(io.BytesIO(content), weights_only=True)
    name = rng.choice([*stored, *stored["course"]])
    holder = stored if name in stored else stored["course"]
    if rng.random() < 0.3:
        del holder[name]
    else:
        holder[name] = rng.choice([None, [], {}, "x", 3, {"weight": torch.ones(1)}, torch.ones(2)])
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    return buffer.getvalue()


def mutate_config(content: bytes, rng: random.Random) -> bytes:
    """Return a bundle's config that was changed and signed again."""
    config = json.loads(content)
    del config["digest"]
    changed = json.loads(mutate_json(json.dumps(config).encode(), rng))
    return json.dumps({**changed, "digest": _digest(changed)}).encode()


def require_one_error(cases: list[Case], *, count: int, seed: int) -> Counter[str]:
    """Require that each of `count` mutations is read or ends in an `InputError`."""
    rng, outcomes = random.Random(seed), Counter[str]()
    for number in range(count):
        path, damage, read = cases[number % len(cases)]
        original = path.read_bytes()
        path.write_bytes(damage(original, rng))
        try:
            read()
            outcomes["read"] += 1
        except InputError:
            outcomes["refused"] += 1
        except Exception as error:
            shutil.copy(path, path.with_name("failed"))
            raise AssertionError(f"mutation {number} of {path} by {damage.__name__}") from error
        finally:
            path.write_bytes(original)
    return outcomes


def full_record() -> RunRecord:
    file = ArtifactFile("models/x.pt", "0", "model")
    return RunRecord(
        stage="train_classifier",
        cell="resnet9",
        params={"seed": 0, "name": "x"},
        seed=0,
        tags={"git.commit": "c"},
        datasets=[DatasetUse("tiny", "digest", "training", {"kind": "x"}, [])],
        history=[Point(1, 0, {"val/loss": 0.5})],
        summary={"test/top1": 0.5},
        artifacts=[file],
        models=[file],
        environment={"python": "3"},
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_500_mutations_of_what_stages_write(trained, tmp_path):
    root = shutil.copytree(trained, tmp_path / "workspace")
    paths = Paths(root)
    captions = read_caption_records(paths.captions("dots"))
    attention, predictions, classes = (tmp_path / name for name in ("attention", "captions.json", "classes.npz"))
    write_attention(attention, CaptionAttention("grid", 1.0, {1: ("a", "dot")}, {1: np.full((2, 4), 0.25, np.float16)}))
    by_set = {
        name: [{"image_id": one.image_id, "caption": "a dot"} for one in captions.of(split)]
        for name, split in SPLIT_OF_SET.items()
    }
    write_caption_predictions(predictions, by_set)
    split = SplitPredictions(np.eye(3, dtype=np.float32), np.arange(3), ("a", "b", "c"))
    write_class_predictions(classes, ClassPredictions(split, split))
    write_json(paths.metrics("train_classifier", "resnet9"), {"best_epoch": 1})
    history = paths.table("train_classifier", "resnet9", "history")
    history.parent.mkdir(parents=True, exist_ok=True)
    history.write_text("step,train/loss,val/loss\n1,0.5,0.7\n2,0.3,\n")
    record = paths.run_record("train_classifier", "resnet9")
    write_record(record, full_record())

    def read_model(name: str) -> Callable[[], object]:
        return lambda: load_named(root, name, device="cpu")

    files = [paths.classifier("resnet9"), paths.captioner("on_grid"), paths.autoencoder("conv")]
    features = paths.features("published")
    cases: list[Case] = [
        *((path, damage, read_model(name)) for path, name in zip(files, ("resnet9", "on_grid", "conv"), strict=True)
          for damage in (mutate, mutate_header)),
        (features / "index.json", mutate_json, lambda: read_features(features, captions)),
        (features / "index.json", mutate_json, read_model("on_grid")),
        (features / "pooled.npy", mutate, lambda: read_features(features, captions)),
        (paths.metrics("evaluate_classifier", "resnet9"), mutate_json, read_model("resnet9")),
        (paths.vocabulary("dots"), mutate_json, read_model("on_grid")),
        (attention / "attention.json", mutate_json, lambda: read_attention(attention)),
        (predictions, mutate_json, lambda: read_caption_predictions(predictions, captions)),
        (classes, mutate, lambda: read_class_predictions(classes)),
        (history, mutate, lambda: read_history(paths, "train_classifier", "resnet9")),
        (record, mutate_json, lambda: read_record(record)),
        (paths.params, mutate, read_model("on_grid")),
    ]  # fmt: skip
    outcomes = require_one_error(cases, count=500, seed=2)
    assert outcomes["refused"] > 250
    assert outcomes["read"] > 20


@pytest.mark.parametrize("name", ["resnet9", "on_grid", "conv"])
def test_200_mutations_of_a_bundle(trained, tmp_path, name):
    section = {"resnet9": "classifiers", "on_grid": "captioners", "conv": "autoencoders"}[name]
    folder = tmp_path / "bundle"
    write_bundle(folder, gather_bundle(trained, section, name), "")
    cases: list[Case] = [
        *((folder / file, mutate, lambda: build(read_bundle(folder))) for file in ("config.json", "model.safetensors")),
        (folder / "config.json", mutate_config, lambda: build(read_bundle(folder))),
        (folder / "config.json", mutate_config, lambda: build(read_bundle(folder))),
    ]
    outcomes = require_one_error(cases, count=200, seed=3)
    assert outcomes["refused"] > 100


def test_500_mutations_of_what_people_write(tmp_path, make_image, make_zip):
    gates, params = (shutil.copy(ROOT / name, tmp_path / name) for name in ("gates.yaml", "params.yaml"))
    references, results, labels, archive = (
        tmp_path / name for name in ("references.json", "results.json", "labels.csv", "images.zip")
    )
    captions = [{"image_id": i, "id": i, "caption": f"a dog and {i} cats"} for i in (1, 2, 3)]
    write_json(references, {"images": [{"id": i} for i in (1, 2, 3)], "annotations": captions})
    write_json(results, captions)
    members = {f"{label}/{i}.png": make_image(i, size=(8, 8)) for label in ("a", "b") for i in range(3)}
    archive.write_bytes(make_zip(members))
    write_text(labels, "file,label,split\n" + "".join(f"{name},{name[0]},train\n" for name in members))

    def score() -> None:
        score_files(references, results, resamples=None, seed=0, with_meteor=False, spice_dir=None)

    def read_folder(table: Path | None) -> None:
        with ZipMembers(archive) as opened:
            read_image_folder(opened, archive, labels=table)

    cases: list[Case] = [
        (Path(gates), mutate, lambda: read_gates(Path(gates))),
        *((path, damage, score) for path in (references, results) for damage in (mutate, mutate_json, mutate_json)),
        (labels, mutate, lambda: read_folder(labels)),
        (archive, mutate, lambda: read_folder(None)),
        (Path(params), mutate, lambda: load_params(tmp_path)),
    ]
    outcomes = require_one_error(cases, count=500, seed=4)
    assert outcomes["refused"] > 250
    assert outcomes["read"] > 20


def test_150_mutations_of_a_training_state(tmp_path):
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    resumable = Resumable(tmp_path, network, optimizer, None)
    state = resumable.load("settings")
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state.history, state.best_epoch, state.best_state = [{"val/loss": 1.0}], 1, dict(network.state_dict())
    resumable.save(state)

    def resume() -> None:
        fresh = torch.nn.Linear(2, 2)
        fresh.load_state_dict(initial)
        again = Resumable(tmp_path, fresh, torch.optim.SGD(fresh.parameters(), lr=0.1, momentum=0.9), None)
        found = again.load("settings")
        assert found.num_epochs in (0, 1)

    initial = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    path = next(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="training starts from the beginning"):
        require_one_error([(path, mutate, resume), (path, mutate_state, resume)], count=150, seed=5)
