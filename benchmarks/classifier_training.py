"""How much faster does a classifier train from packed arrays than from ImageFolder and a DataLoader?

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
from learner import Learner, Stretch

from seesay.classification.training.fit import evaluate_on_val
from seesay.compute import Compute, configure
from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_section
from seesay.core.stage import guarded
from seesay.images.batches import Batch, load_images, num_training_batches, training_batches
from seesay.images.packed import PackedImages, read_packed_images
from seesay.params.classification import Classifier
from seesay.params.references import SCRATCH
from seesay.params.training import Runtime

OURS, USUAL, AT_HAND = "seesay", "ImageFolder", "one batch"
"""The two paths; and the same batch again and again, which shows what the network alone takes."""

WARM_UP = 3
"""Batches before the clock starts: at the first, worker processes are started and memory is reserved."""

Supply = Callable[[int], Iterator[Batch]]
"""Gives as many training batches as it is asked for, on the device."""


@dataclass
class Course:
    """One path's way to an accuracy: the clock runs while it trains, not while it is judged on val."""

    total: Stretch = field(default_factory=Stretch)
    num_epochs: int = 0
    top1: float = 0.0


def compare_speed(
    learners: Mapping[str, Learner], supplies: Mapping[str, Supply], *, rounds: int, batches: int
) -> dict[str, Any]:
    """Images per second and waiting shares; in each round each of `supplies` trains for `batches`, in turn.

    `lost` is the share of a path's time that would be saved if its data cost nothing: what it waits for, and what
    preparing data takes from the network on the same cores.
    """
    for name, supply in supplies.items():
        learners[name].train(supply(WARM_UP))
    seen: dict[str, list[Stretch]] = {name: [] for name in supplies}
    for _ in range(rounds):
        for name, supply in supplies.items():
            seen[name].append(learners[name].train(supply(batches)))
    pairs = list(zip(seen[OURS], seen[USUAL], strict=True))
    ratios = [ours.images_per_second / usual.images_per_second for ours, usual in pairs]
    of_cores = [usual.core_milliseconds_per_image / ours.core_milliseconds_per_image for ours, usual in pairs]
    of_paths = {
        name: {
            "images_per_second": statistics.median(one.images_per_second for one in stretches),
            "waiting_share": statistics.median(one.waiting_share for one in stretches),
            "lost": statistics.median(
                1.0 - one.images_per_second / alone.images_per_second
                for one, alone in zip(stretches, seen[AT_HAND], strict=True)
            ),
            "core_milliseconds_per_image": statistics.median(one.core_milliseconds_per_image for one in stretches),
            "rounds": [one.images_per_second for one in stretches],
        }
        for name, stretches in seen.items()
    }
    return {"paths": of_paths, "ratio": statistics.median(ratios), "ratios": ratios,
            "core_ratio": statistics.median(of_cores)}  # fmt: skip


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
    """Seconds of training until val top-1 is `top1`, both paths in turn an epoch each, `epochs` at most."""
    for name, supply in supplies.items():
        learners[name].train(supply(WARM_UP))
    courses = {name: Course() for name in supplies}
    for _ in range(epochs):
        for name, course in courses.items():
            if course.top1 < top1:
                course.total.add(learners[name].train(supplies[name](num_batches)))
                course.num_epochs += 1
                course.top1 = evaluate_on_val(learners[name].judged, images, compute=compute)["val/top1"]
                print(f"  {name}: epoch {course.num_epochs}, {course.total.seconds:.1f} s, val {course.top1:.1%}")
    of_paths = {
        name: {
            "seconds": course.total.seconds if course.top1 >= top1 else None,
            "epochs": course.num_epochs,
            "val/top1": course.top1,
            "images_per_second": course.total.images_per_second,
            "waiting_share": course.total.waiting_share,
            "core_milliseconds_per_image": course.total.core_milliseconds_per_image,
        }
        for name, course in courses.items()
    }
    ours, usual = of_paths[OURS]["seconds"], of_paths[USUAL]["seconds"]
    return {"paths": of_paths, "top1": top1, "ratio": usual / ours if ours and usual else None}


def measure_cell(cell: str, root: Path, options: argparse.Namespace, *, compute: Compute) -> dict[str, Any]:
    """What one cell's benchmark gave, and on what."""
    settings = read_section(root, f"classifiers.{cell}", Classifier)
    _require_simple(settings, key=f"{root / PARAMS_FILE}: classifiers.{cell}")
    training, augmentation = settings.training, settings.augmentation
    assert training is not None, "checked above"
    paths, seed, batch_size = Paths(root), read_section(root, "seed", int), training.batch_size
    images = read_packed_images(paths.images(options.dataset or settings.dataset))
    mean, std = images.channel_mean, images.channel_std
    train = load_images(images.train, mean=mean, std=std, device=compute.device)
    if len(train) < batch_size:
        raise InputError(f"{images.name}: {len(train)} training images, fewer than a batch of {cell}, {batch_size}")
    epochs_of_ours = (
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
            OURS: lambda wanted: islice(chain.from_iterable(epochs_of_ours), wanted),  # each time a new epoch
            USUAL: usual.batches,
        }
        if options.time_to_accuracy is None:
            batch = next(supplies[OURS](1))
            supplies[AT_HAND] = lambda wanted: repeat(batch, wanted)
        learners = {
            name: Learner(cell, settings, images, num_steps=WARM_UP + num_timed, seed=seed, compute=compute)
            for name in supplies
        }
        if options.time_to_accuracy is None:
            found = compare_speed(learners, supplies, rounds=options.rounds, batches=options.batches)
        else:
            goal = options.time_to_accuracy
            found = time_to_accuracy(
                learners, supplies, images, top1=goal, epochs=epochs, num_batches=num_batches, compute=compute
            )
    about = {"cell": cell, "dataset": images.name, "image_size": images.image_size, "batch_size": batch_size}
    return {**about, "num_train": len(train), "files": files, **found}


def describe(result: Mapping[str, Any]) -> str:
    """A cell's figures as a small table."""
    timed = "top1" in result
    lines = [
        f"{result['cell']} on {result['dataset']}: {result['num_train']} images of {result['image_size']} pixels, "
        f"batches of {result['batch_size']}; JPEG files: {result['files']}",
        f"  {'':12}{'images/s':>9}{'core-ms/image':>15}{'waiting for data':>18}"
        + (f"{'seconds':>11}{'epochs':>8}" if timed else f"{'lost to data':>14}"),
    ]
    for name, path in result["paths"].items():
        cores = path["core_milliseconds_per_image"]
        line = f"  {name:12}{path['images_per_second']:9.0f}{cores:15.2f}{path['waiting_share']:18.1%}"
        if timed:
            seconds = "not there" if path["seconds"] is None else f"{path['seconds']:.1f}"
            line += f"{seconds:>11}{path['epochs']:8}   val top-1 {path['val/top1']:.1%}, wanted {result['top1']:.1%}"
        else:
            line += f"{path['lost']:14.1%}"
        lines.append(line)
    said = "  ratio: " + ("not known" if result["ratio"] is None else f"{result['ratio']:.2f}")
    if not timed:
        rounds = ", ".join(f"{one:.2f}" for one in result["ratios"])
        said += f" (median of the rounds: {rounds}); of the core-seconds: {result['core_ratio']:.2f}"
    return "\n".join([*lines, said])


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    compute = configure(read_section(root, "runtime", Runtime))
    results = []
    for cell in options.cells:
        results.append(measure_cell(cell, root, options, compute=compute))
        print(describe(results[-1]))
    if options.out is not None:
        versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        about = {**compute.describe(), **versions, "python": platform.python_version()}
        asked = {name: value for name, value in vars(options).items() if name != "out"}
        write_json(root / options.out, {"options": asked, "environment": about, "results": results})
        print(f"written: {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run it in the repository's root; see benchmarks/README.md.")
    parser.add_argument("--cells", nargs="+", metavar="CELL", default=["plain_cnn", "resnet9"], help="of classifiers")
    parser.add_argument("--dataset", metavar="NAME", help="a prepared image dataset (default: each cell's own)")
    parser.add_argument("--rounds", metavar="N", type=_positive, default=7, help="turns of each path (default: 7)")
    parser.add_argument("--batches", metavar="N", type=_positive, default=50, help="batches a turn (default: 50)")
    parser.add_argument("--num-workers", metavar="N", type=int, default=2, help="of the DataLoader (default: 2)")
    parser.add_argument("--time-to-accuracy", metavar="SHARE", type=float, help="instead: train to this val top-1")
    parser.add_argument("--epochs", metavar="N", type=_positive, help="for that, at most (default: the cell's)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="where the figures go, as JSON")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def _require_simple(settings: Classifier, *, key: str) -> None:
    """Refuses what the other path has no counterpart for here."""
    if settings.training is None or settings.distillation is not None:
        raise InputError(f"{key}: expected a network that learns from labels alone")
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
