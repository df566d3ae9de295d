"""Training speed of a classifier with packed arrays, compared with ImageFolder and a DataLoader.

Both feed the same network with the same augmentation, in turns, in one process: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice, repeat
from pathlib import Path
from typing import Any

import torch
import torchvision
from image_folder import UsualPath, usual_transforms, write_image_folder
from learner import Learner, Measurement

from seesay.classification.training.fit import evaluate_on_val
from seesay.compute import Compute, configure
from seesay.core.errors import InputError
from seesay.core.files import require_writable, write_json
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_section
from seesay.core.stage import guarded
from seesay.images.batches import Batch, load_images, num_training_batches, training_batches
from seesay.images.packed import PackedImages, read_packed_images
from seesay.params.classification import Classifier
from seesay.params.training import SCRATCH, Runtime

OURS, USUAL, ONE_BATCH = "seesay", "ImageFolder", "one batch"
"""The two data paths; and the same batch repeated, which measures the network alone."""

WARM_UP = 3
"""Batches before the measurement: the first starts worker processes and allocates memory."""

Supply = Callable[[int], Iterator[Batch]]
"""A function from a number of batches to that many training batches, on the device."""


@dataclass
class AccuracyRun:
    """One path's training until an accuracy is reached; `total` covers training, not evaluation on val."""

    total: Measurement = field(default_factory=Measurement)
    num_epochs: int = 0
    top1: float = 0.0


def compare_speed(
    learners: Mapping[str, Learner], supplies: Mapping[str, Supply], *, rounds: int, batches: int
) -> dict[str, Any]:
    """Measure images per second and waiting shares; in each round each of `supplies` trains for `batches`, in turn.

    `lost` is the share of a path's time that would be saved if data cost nothing: the time spent waiting for data, and
    the processor time that preparing data takes from the network on the same cores.
    """
    for name, supply in supplies.items():
        learners[name].train(supply(WARM_UP))
    measurements: dict[str, list[Measurement]] = {name: [] for name in supplies}
    for _ in range(rounds):
        for name, supply in supplies.items():
            measurements[name].append(learners[name].train(supply(batches)))
    pairs = list(zip(measurements[OURS], measurements[USUAL], strict=True))
    ratios = [ours.images_per_second / usual.images_per_second for ours, usual in pairs]
    core_ratios = [usual.core_milliseconds_per_image / ours.core_milliseconds_per_image for ours, usual in pairs]
    paths = {
        name: {
            "images_per_second": statistics.median(one.images_per_second for one in turns),
            "waiting_share": statistics.median(one.waiting_share for one in turns),
            "lost": statistics.median(
                1.0 - one.images_per_second / network_only.images_per_second
                for one, network_only in zip(turns, measurements[ONE_BATCH], strict=True)
            ),
            "core_milliseconds_per_image": statistics.median(one.core_milliseconds_per_image for one in turns),
            "rounds": [one.images_per_second for one in turns],
        }
        for name, turns in measurements.items()
    }
    return {"paths": paths, "ratio": statistics.median(ratios), "ratios": ratios,
            "core_ratio": statistics.median(core_ratios)}  # fmt: skip


def time_to_accuracy(
    learners: Mapping[str, Learner],
    supplies: Mapping[str, Supply],
    images: PackedImages,
    *,
    top1: float,
    epochs: int,
    num_batches: int,
    compute: Compute,
) -> dict[str, Any]:
    """Measure the seconds of training until val top-1 is `top1`: an epoch of each path in turn, `epochs` at most."""
    for name, supply in supplies.items():
        learners[name].train(supply(WARM_UP))
    runs = {name: AccuracyRun() for name in supplies}
    for _ in range(epochs):
        for name, run in runs.items():
            if run.top1 < top1:
                run.total.add(learners[name].train(supplies[name](num_batches)))
                run.num_epochs += 1
                run.top1 = evaluate_on_val(learners[name].evaluated_network, images, compute=compute)["val/top1"]
                print(f"  {name}: epoch {run.num_epochs}, {run.total.seconds:.1f} s, val {run.top1:.1%}")
    paths = {
        name: {
            "seconds": run.total.seconds if run.top1 >= top1 else None,
            "epochs": run.num_epochs,
            "val/top1": run.top1,
            "images_per_second": run.total.images_per_second,
            "waiting_share": run.total.waiting_share,
            "core_milliseconds_per_image": run.total.core_milliseconds_per_image,
        }
        for name, run in runs.items()
    }
    ours, usual = paths[OURS]["seconds"], paths[USUAL]["seconds"]
    return {"paths": paths, "top1": top1, "ratio": usual / ours if ours and usual else None}


def measure_experiment(cell: str, root: Path, options: argparse.Namespace, *, compute: Compute) -> dict[str, Any]:
    """Benchmark one experiment; return the results and the data's description."""
    settings = read_section(root, f"classifiers.{cell}", Classifier)
    _require_simple(settings, key=f"{root / PARAMS_FILE}: classifiers.{cell}")
    training, augmentation = settings.training, settings.augmentation
    assert training is not None, "checked above"
    paths, seed, batch_size = Paths(root), read_section(root, "seed", int), training.batch_size
    images = read_packed_images(paths.images(options.dataset or settings.dataset))
    mean, std = images.channel_mean, images.channel_std
    train = load_images(images.train, mean=mean, std=std, compute=compute)
    if len(train) < batch_size:
        raise InputError(f"{images.name}: {len(train)} training images, fewer than a batch of {cell}, {batch_size}")
    our_epochs = (
        training_batches(train, epoch, batch_size=batch_size, augmentation=augmentation, seed=seed)
        for epoch in count(1)
    )
    num_batches = num_training_batches(len(train), batch_size=batch_size)
    epochs = options.epochs or training.epochs
    num_timed = options.rounds * options.batches if options.time_to_accuracy is None else epochs * num_batches
    with tempfile.TemporaryDirectory(prefix="seesay-benchmark-") as scratch:
        files = write_image_folder(Path(scratch), images, paths.raw_images(images.source.name))
        usual = UsualPath(
            Path(scratch),
            usual_transforms(augmentation, image_size=images.image_size, mean=mean, std=std),
            batch_size=batch_size,
            num_workers=options.num_workers,
            seed=seed,
            compute=compute,
        )
        supplies: dict[str, Supply] = {
            OURS: lambda num: islice(chain.from_iterable(our_epochs), num),  # starts a new epoch at each call
            USUAL: usual.batches,
        }
        if options.time_to_accuracy is None:
            batch = next(supplies[OURS](1))
            supplies[ONE_BATCH] = lambda num: repeat(batch, num)
        learners = {
            name: Learner(cell, settings, images, num_steps=WARM_UP + num_timed, seed=seed, compute=compute)
            for name in supplies
        }
        if options.time_to_accuracy is None:
            result = compare_speed(learners, supplies, rounds=options.rounds, batches=options.batches)
        else:
            goal = options.time_to_accuracy
            result = time_to_accuracy(
                learners, supplies, images, top1=goal, epochs=epochs, num_batches=num_batches, compute=compute
            )
    header = {"cell": cell, "dataset": images.name, "image_size": images.image_size, "batch_size": batch_size}
    return {**header, "num_train": len(train), "files": files, **result}


def describe(result: Mapping[str, Any]) -> str:
    """Format the result of one experiment as a small table."""
    to_accuracy = "top1" in result
    lines = [
        f"{result['cell']} on {result['dataset']}: {result['num_train']} images of {result['image_size']} pixels, "
        f"batches of {result['batch_size']}; JPEG files: {result['files']}",
        f"  {'':12}{'images/s':>9}{'core-ms/image':>15}{'waiting for data':>18}"
        + (f"{'seconds':>11}{'epochs':>8}" if to_accuracy else f"{'lost to data':>14}"),
    ]
    for name, path in result["paths"].items():
        cores = path["core_milliseconds_per_image"]
        line = f"  {name:12}{path['images_per_second']:9.0f}{cores:15.2f}{path['waiting_share']:18.1%}"
        if to_accuracy:
            seconds = "missed" if path["seconds"] is None else f"{path['seconds']:.1f}"
            line += f"{seconds:>11}{path['epochs']:8}   val top-1 {path['val/top1']:.1%}, goal {result['top1']:.1%}"
        else:
            line += f"{path['lost']:14.1%}"
        lines.append(line)
    summary = "  ratio: " + ("unknown" if result["ratio"] is None else f"{result['ratio']:.2f}")
    if not to_accuracy:
        rounds = ", ".join(f"{one:.2f}" for one in result["ratios"])
        summary += f" (median of the rounds: {rounds}); of the core-seconds: {result['core_ratio']:.2f}"
    return "\n".join([*lines, summary])


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.out is not None:
        require_writable(root / options.out, option="--out")
    compute = configure(read_section(root, "runtime", Runtime))
    results = []
    for cell in options.cells:
        results.append(measure_experiment(cell, root, options, compute=compute))
        print(describe(results[-1]))
    if options.out is not None:
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        environment = {**compute.describe(), **versions, "python": platform.python_version()}
        chosen = {name: value for name, value in vars(options).items() if name != "out"}
        write_json(root / options.out, {"options": chosen, "environment": environment, "results": results})
        print(f"written: {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run it in the repository's root; see benchmarks/README.md.")
    parser.add_argument("--cells", nargs="+", metavar="CELL", default=["plain_cnn"],
                        help="entries of classifiers (default: plain_cnn)")  # fmt: skip
    parser.add_argument("--dataset", metavar="NAME", help="a prepared image dataset (default: the experiment's own)")
    parser.add_argument("--rounds", metavar="N", type=_positive, default=7, help="turns of each path (default: 7)")
    parser.add_argument("--batches", metavar="N", type=_positive, default=50, help="batches per turn (default: 50)")
    parser.add_argument("--num-workers", metavar="N", type=int, default=2, help="DataLoader workers (default: 2)")
    parser.add_argument("--time-to-accuracy", metavar="SHARE", type=float, help="instead, train to this val top-1")
    parser.add_argument("--epochs", metavar="N", type=_positive,
                        help="at most, with --time-to-accuracy (default: the experiment's)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the results to this JSON file")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _require_simple(settings: Classifier, *, key: str) -> None:
    """Raise `InputError` for settings that the ImageFolder path does not support."""
    if settings.training is None or settings.distillation is not None:
        raise InputError(f"{key}: expected a network trained on labels alone")
    if settings.start != SCRATCH:
        raise InputError(f"{key}.start: got {settings.start!r}: expected {SCRATCH}")
    if settings.training.accumulate_batches != 1:
        raise InputError(f"{key}.training.accumulate_batches: expected 1")
    known = {"flip", "crop_padding", "cutout"}
    others = sorted(name for name, value in settings.augmentation if value and name not in known)
    if others:
        raise InputError(f"{key}.augmentation: got {', '.join(others)}: expected {', '.join(sorted(known))} only")


if __name__ == "__main__":
    guarded(main, Path())
