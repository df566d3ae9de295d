"""How time and memory grow with the number of images and of experiments: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.ticker import NullLocator
from PIL import Image
from ruamel.yaml import YAML

from seesay.classification.networks.registry import build_classifier
from seesay.classification.training.fit import build_learning_step
from seesay.compute import Compute, configure
from seesay.core.files import file_digest, read_json, require_writable
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.core.stage import guarded
from seesay.images.batches import load_images, training_batches
from seesay.images.packed import PackedImages, read_packed_images
from seesay.params.classification import Classifier
from seesay.params.training import Runtime
from seesay.plotting.style import GREY, PALETTE, new_figure
from seesay.sources.provenance import SourceFile, SourceNote, write_source
from seesay.workspace import prepare_workspace

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES, SIZE = 200, 64
CELL, DATASET = "small", "many"
STAGES = (f"prepare_images@{DATASET}", f"train_classifier@{CELL}", f"evaluate_classifier@{CELL}")
BATCHES_A_ROUND = 60


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.draw is not None:
        draw(options.draw[0], [read_json(path) for path in options.draw[1:]])
        return
    if options.out is not None:
        require_writable(options.out, option="--out")
    results: dict[str, Any] = {}
    with TemporaryDirectory(dir=options.folder) as folder:
        results["images"] = [
            measure_images(Path(folder) / str(count), count, limit=options.limit, rounds=options.rounds)
            for count in options.images
        ]
        results["experiments"] = [
            measure_experiments(Path(folder) / f"cells{count}", count, rounds=options.rounds)
            for count in options.experiments
        ]
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def measure_images(root: Path, count: int, *, limit: float | None, rounds: int) -> dict[str, Any]:
    """Prepare, train one epoch and evaluate on about `count` generated images, each stage within `limit` GB."""
    write_source_images(root, count)
    measured: dict[str, Any] = {"num_images": count}
    for step in STAGES:
        stage, _, cell = step.partition("@")
        measured[stage] = run_stage(root, stage, cell, limit=limit)
        print(f"{count} images: {stage}: {measured[stage]}", flush=True)
    measured["images_per_second"] = compare_reading(root, rounds=rounds)
    print(f"{count} images: {measured['images_per_second']}", flush=True)
    shutil.rmtree(root)
    return measured


def write_source_images(root: Path, count: int) -> None:
    """Write an archive of random JPEGs in Tiny ImageNet's layout, 200 classes, and params.yaml."""
    random = np.random.default_rng(0)
    num_test = max(1, count // 10 // NUM_CLASSES)
    num_train = count // NUM_CLASSES
    folder = Paths(root).raw_images(DATASET)
    folder.mkdir(parents=True)
    wnids = [f"g{number:08d}" for number in range(NUM_CLASSES)]

    def jpeg() -> bytes:
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(buffer, "JPEG")
        return buffer.getvalue()

    path = folder / "many.zip"
    annotations: list[str] = []
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("many/wnids.txt", "".join(f"{wnid}\n" for wnid in wnids))
        archive.writestr("many/words.txt", "".join(f"{wnid}\tclass {wnid}\n" for wnid in wnids))
        for wnid in wnids:
            for number in range(num_train):
                archive.writestr(f"many/train/{wnid}/images/{wnid}_{number}.JPEG", jpeg())
            for _ in range(num_test):
                name = f"val_{len(annotations)}.JPEG"
                archive.writestr(f"many/val/images/{name}", jpeg())
                annotations.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
        archive.writestr("many/val/val_annotations.txt", "".join(annotations))
    sha256 = file_digest(path)
    file = SourceFile(path.name, "generated", sha256, path.stat().st_size, f"sha256:{sha256}", False)
    write_source(folder, SourceNote(DATASET, (file,)))
    num_val = max(1, num_train // 10)
    dataset = {
        "source": DATASET, "subset": "tiny200", "image_size": SIZE, "num_train_per_class": num_train - num_val,
        "num_val_per_class": num_val, "split_seed": 0, "limits": {"max_undecodable": 0, "max_left_out_per_class": 10},
    }  # fmt: skip
    training = {
        "epochs": 1, "batch_size": 128, "schedule": {"decay": "linear", "warmup_fraction": 0.2},
        "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    }  # fmt: skip
    params = {
        "seed": 0,
        "runtime": {"device": "auto", "precision": "auto", "num_threads": 1, "deterministic": True, "compile": False},
        "evaluation": {"batch_size": 256, "panel_images": 12, "panel_seed": 0, "bootstrap_resamples": 200,
                       "bootstrap_seed": 0},
        "image_datasets": {DATASET: dataset},
        "classifiers": {
            CELL: {
                "dataset": DATASET, "start": "scratch", "training": training,
                "architecture": {"name": "plain_cnn", "widths": [16, 32, 64], "dropout": 0.0},
                "augmentation": {"flip": True, "crop_padding": 6, "cutout": 0.3},
            }
        },
    }  # fmt: skip
    YAML(typ="safe", pure=True).dump(params, root / "params.yaml")


def run_stage(root: Path, stage: str, cell: str, *, limit: float | None) -> dict[str, float]:
    """Return seconds, processor seconds and the peak of resident memory (GB, pages of mapped files included)."""

    def cap() -> None:
        if limit is not None:  # memory of the process itself; pages of mapped files can always be dropped
            resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9), int(limit * 1e9)))

    environment = os.environ | {"SEESAY_TRACKING": "off", "PYTHONPATH": str(ROOT / "src")}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, ROOT / f"stages/{stage}.py", cell], cwd=root, env=environment, preexec_fn=cap
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{stage} ended with status {status}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "core_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_gb": round(usage.ru_maxrss * 1024 / 1e9, 2),
    }


def compare_reading(root: Path, *, rounds: int) -> dict[str, float]:
    """Train on batches from memory and on batches from the file, in turns; return images per core-second of each."""
    images = read_packed_images(Paths(root).images(DATASET))
    settings = read_section(root, f"classifiers.{CELL}", Classifier)
    compute = configure(read_section(root, "runtime", Runtime))
    ways = {name: turn_of(settings, images, replace(compute, memory_share=share), name=name)
            for name, share in (("memory", 1.0), ("file", 0.0))}  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, turn in ways.items():
            started, core_started = time.perf_counter(), time.process_time()
            num_images = turn(number + 1)
            core, wall = time.process_time() - core_started, time.perf_counter() - started
            if number:  # the first round warms up
                rates[name].append(num_images / core)
                rates.setdefault(f"{name}_by_the_clock", []).append(num_images / wall)
    ratios = [one / other for one, other in zip(rates["file"], rates["memory"], strict=True)]
    return {**{name: round(median(values), 1) for name, values in rates.items()}, "ratio": round(median(ratios), 3)}


def turn_of(settings: Classifier, images: PackedImages, compute: Compute, *, name: str) -> Callable[[int], int]:
    """Return a function that trains on the first batches of an epoch, and returns the number of images."""
    from seesay.training.optim import build_optimizer

    assert settings.training is not None
    batch_size, optimizer_settings = settings.training.batch_size, settings.training.optimizer
    classifier = build_classifier(
        settings.architecture, num_classes=images.num_classes, image_size=images.image_size, seed=0, key=name
    )
    network = compute.place(classifier).train()
    optimizer = build_optimizer(network, optimizer_settings, fused=False)
    step = build_learning_step(settings, images, teacher=None, compute=compute)
    train = load_images(images.train, mean=images.channel_mean, std=images.channel_std, compute=compute)

    def turn(epoch: int) -> int:
        batches = training_batches(train, epoch, batch_size=batch_size, augmentation=settings.augmentation, seed=0)
        num_images = 0
        for number, batch in enumerate(batches):
            with compute.autocast():
                result = step(network, batch)
            result.loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            num_images += result.num_examples
            if number + 1 == BATCHES_A_ROUND:
                break
        return num_images

    return turn


def measure_experiments(root: Path, count: int, *, rounds: int) -> dict[str, Any]:
    """Time a repro that finds nothing to do among `count` classifiers, whose outputs are stand-ins."""
    from dvc.repo import Repo

    overrides: Any = YAML(typ="safe", pure=True).load(ROOT / "params/demo.yaml")
    cell = overrides["classifiers"]["mlp"]
    overrides["classifiers"] = {f"c{number:03d}": cell for number in range(count)}
    for section in ("autoencoders", "captioners", "features", "finetuned", "vocabularies", "caption_datasets",
                    "caption_sources", "weights"):  # fmt: skip
        overrides[section] = {}
    overrides["comparison"]["overfitting_study"] = ["c000", "c001"]
    overrides["release"] |= {"classifiers": ["c000"], "captioners": []}
    root.mkdir()
    path = root / "overrides.yaml"
    YAML(typ="safe", pure=True).dump(overrides, path)
    gates = root / "gates.yaml"
    gates.write_text("baseline: null\nrules: []\n", encoding="utf-8")
    prepare_workspace(ROOT, root / "workspace", overrides=path, gates=gates)
    workspace = root / "workspace"
    with Repo(str(workspace)) as repo:
        num_stages = len(repo.index.stages)
        for out in repo.index.outs:
            target = Path(out.fs_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix:
                target.write_text("{}\n", encoding="utf-8")
            else:
                target.mkdir(exist_ok=True)
                (target / "stand-in.json").write_text("{}\n", encoding="utf-8")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run(
        [sys.executable, "-m", "seesay.tracking.dvc_stages", "commit", "--force", "--quiet"], cwd=workspace, check=True
    )
    seconds: dict[str, list[float]] = {"dvc": [], "seesay": []}
    for _ in range(rounds):
        for name, command in (("dvc", [*dvc, "repro"]), ("seesay", [sys.executable, "-m", "seesay.cli", "repro"])):
            started = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(command, cwd=workspace, text=True, capture_output=True, check=False)
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            if done.returncode or "Running stage" in done.stdout:
                sys.exit(f"{name} repro failed or had something to do:\n{done.stdout}{done.stderr}")
            seconds[name].append(ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime)
    measured = {"num_experiments": count, "num_stages": num_stages,
                **{name: round(median(values), 2) for name, values in seconds.items()}}  # fmt: skip
    print(measured, done.stdout[-300:], done.stderr[-300:], flush=True)
    return measured


def draw(path: Path, results: Sequence[Any]) -> None:
    """Draw processor seconds against the number of images and of experiments, each beside a line of equal growth."""
    images = [row for one in results for row in one["images"]]
    experiments = [row for one in results for row in one["experiments"]]
    panels = [
        ("images", [row["num_images"] for row in images], {
            stage: [row[stage]["core_seconds"] for row in images]
            for stage in (step.partition("@")[0] for step in STAGES)
        }),
        ("experiments", [row["num_experiments"] for row in experiments], {
            f"{name} repro with nothing to do": [row[name] for row in experiments] for name in ("dvc", "seesay")
        }),
    ]  # fmt: skip
    with new_figure(path, width=8.0, height=3.2) as figure:
        for axes, (of_what, counts, lines) in zip(figure.subplots(1, 2), panels, strict=True):
            for (label, seconds), colour in zip(lines.items(), PALETTE, strict=False):
                axes.plot(counts, seconds, "o-", color=colour, label=label)
            most = max(seconds[-1] for seconds in lines.values())
            axes.plot(counts, [most * count / counts[-1] for count in counts], ":", color=GREY, label="linear growth")
            axes.set(xscale="log", yscale="log", xlabel=f"number of {of_what}", ylabel="processor seconds")
            axes.set_xticks(counts, [f"{count:,}" for count in counts])
            axes.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
            axes.legend(fontsize=8)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=[6250, 25_000, 100_000], metavar="N")
    parser.add_argument("--experiments", type=int, nargs="*", default=[10, 40, 160], metavar="N")
    parser.add_argument("--limit", type=float, metavar="GB", help="memory of each stage, as `ulimit -d` counts it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write the data, some GB")
    parser.add_argument("--draw", type=Path, nargs="+", metavar="FILE",
                        help="draw the first file, an SVG, of earlier results, the other files")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results to this JSON file")
    return parser


if __name__ == "__main__":
    guarded(main)
