"""How much faster are captions searched for in batches than one by one?

The same captioner and features, each way in turn, in one process: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import inspect
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from one_by_one import Words, textbook_beam, textbook_greedy
from torch import Tensor

from seesay.captioning.data.records import read_caption_records
from seesay.captioning.decoding.decode import decode
from seesay.captioning.features.store import read_features
from seesay.captioning.networks.base import Captioner
from seesay.captioning.networks.registry import CAPTIONERS, build_captioner, restore_captioner
from seesay.compute import Compute, configure
from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.stage import guarded
from seesay.params.captioning import Beam, Decoding, Greedy
from seesay.params.classification import Architecture
from seesay.params.training import Runtime
from seesay.training.checkpoint import load_checkpoint

BATCHED, ALONE, TEXTBOOK = "batched", "one by one", "textbook"
"""seesay's engine with a batch; the same with a batch of one image; and a plain search for one image."""

GOALS = {"greedy": 20.0, "beam": 12.0}
"""How many times faster than one by one is wanted."""

SIZES = {
    "embedding_size": 512,
    "hidden_size": 512,
    "attention_size": 512,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "tie_weights": False,
    "image_enters": "initial_state",
}
VOCABULARY_SIZE, FEATURE_SIZE, NUM_PLACES = 2700, 1280, 49
"""Of a captioner that has learned nothing; about Flickr8k's, with MobileNetV2's features."""

LONGEST = 24
LONGEST_UNTRAINED = 12
"""A captioner that has learned nothing hardly ends: all its captions have this length, which is that of usual ones."""

Way = Callable[[Tensor], list[Words]]


def compare_ways(ways: Mapping[str, Way], shown: Mapping[str, Tensor], *, rounds: int) -> dict[str, Any]:
    """Images a second of each of `ways` on what it is shown; in each round each of them, in turn.

    `core_ratio` is the ratio of processor times: what counts where the cores are shared.
    """
    said = {name: way(shown[name]) for name, way in ways.items()}  # the first time is no measurement
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    of_cores: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started, used = time.perf_counter(), time.process_time()
            way(shown[name])
            of_cores[name].append(len(shown[name]) / (time.process_time() - used))
            speeds[name].append(len(shown[name]) / (time.perf_counter() - started))
    return {
        "ways": {
            name: {
                "images_per_second": statistics.median(of_way),
                "rounds": of_way,
                "ratio": _median_ratio(speeds[BATCHED], of_way),
                "core_ratio": _median_ratio(of_cores[BATCHED], of_cores[name]),
                "same_captions": statistics.mean(
                    ours == theirs for ours, theirs in zip(said[BATCHED], said[name], strict=False)
                ),
            }
            for name, of_way in speeds.items()
        }
    }


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def ways_of(captioner: Captioner, decoding: Greedy | Beam, *, compute: Compute) -> dict[str, Way]:
    def engine(how: Decoding) -> Way:
        def say(features: Tensor) -> list[Words]:
            with compute.autocast():
                return [candidates[0].token_ids for candidates in decode(captioner, features, how, seed=0)]

        return say

    def textbook(features: Tensor) -> list[Words]:
        with compute.autocast():
            if isinstance(decoding, Greedy):
                return [textbook_greedy(captioner, one, max_length=decoding.max_length) for one in features.split(1)]
            settings = decoding.model_dump(exclude={"method", "batch_size"})
            return [textbook_beam(captioner, one, **settings) for one in features.split(1)]

    alone = decoding.model_copy(update={"batch_size": 1})
    return {BATCHED: engine(decoding), ALONE: engine(alone), TEXTBOOK: textbook}


def trained(cell: str, root: Path, *, num_images: int) -> tuple[Captioner, Tensor]:
    """The captioner of a cell and features of its dataset's first test images."""
    paths = Paths(root)
    checkpoint = load_checkpoint(paths.captioner(cell), kind="captioner")
    captions = read_caption_records(paths.captions(checkpoint.dataset))
    features = read_features(paths.features(checkpoint.settings["features"][0]), captions)
    captioner = restore_captioner(checkpoint)
    rows = captions.rows("test")[:num_images]
    if len(rows) < num_images:
        raise InputError(f"{captions.name}: {len(rows)} test images: expected {num_images}, or a smaller --images")
    return captioner, torch.from_numpy(features.seen(captioner.looks_at)[rows].astype(np.float32))


def untrained(name: str, *, num_images: int) -> tuple[Captioner, Tensor]:
    """A new captioner of a usual size, and features at random."""
    takes = inspect.signature(CAPTIONERS[name]).parameters
    architecture = Architecture(name=name, **{key: size for key, size in SIZES.items() if key in takes})
    captioner = build_captioner(
        architecture, vocabulary_size=VOCABULARY_SIZE, feature_size=FEATURE_SIZE, seed=0, key="architecture"
    )
    shape = (FEATURE_SIZE,) if captioner.looks_at == "pooled" else (NUM_PLACES, FEATURE_SIZE)
    return captioner.eval(), torch.randn(num_images, *shape, generator=torch.Generator().manual_seed(0))


def measure(name: str, captioner: Captioner, features: Tensor, options: argparse.Namespace, compute: Compute) -> Any:
    """What was found of one captioner."""
    captioner, features = compute.place(captioner).eval(), features.to(compute.device)
    max_length = LONGEST if options.cells else LONGEST_UNTRAINED
    batch_size = options.batch_size
    decodings: dict[str, Greedy | Beam] = {
        "greedy": Greedy(method="greedy", max_length=max_length, batch_size=batch_size),
        "beam": Beam(
            method="beam", beam_size=options.beam_size, length_penalty=0.7, max_length=max_length, batch_size=batch_size
        ),
    }
    few = features[: options.images_alone]
    shown = {BATCHED: features, ALONE: few, TEXTBOOK: few}
    found = {
        method: {
            "goal": GOALS[method],
            **compare_ways(ways_of(captioner, how, compute=compute), shown, rounds=options.rounds),
        }
        for method, how in decodings.items()
    }
    return {"captioner": name, "looks_at": captioner.looks_at, "max_length": max_length, "methods": found}


def describe(result: Mapping[str, Any], *, beam_size: int) -> str:
    """A captioner's figures as a small table."""
    lines = [
        f"{result['captioner']}, {result['looks_at']} features, captions of {result['max_length']} words or fewer",
        f"  {'':20}{'images/s':>9}{'batched is faster':>19}{'in core-seconds':>17}{'same captions':>15}",
    ]
    for method, found in result["methods"].items():
        name = method if method == "greedy" else f"beam {beam_size}"
        for way, figures in found["ways"].items():
            times, of_cores = ("" if way == BATCHED else f"{figures[key]:.1f} times" for key in ("ratio", "core_ratio"))
            speed, same = f"{figures['images_per_second']:9.1f}", f"{figures['same_captions']:15.0%}"
            lines.append(f"  {name:8}{way:12}{speed}{times:>19}{of_cores:>17}{same}")
        lines.append(f"  {name:8}wanted: {found['goal']:.0f} times")
    return "\n".join(lines)


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    compute = configure(
        Runtime(
            device=options.device, precision=options.precision, num_threads=options.threads,
            deterministic=True, compile=False,
        )
    )  # fmt: skip
    if options.cells:
        chosen = {cell: trained(cell, root, num_images=options.images) for cell in options.cells}
    else:
        names = [name for name in options.untrained if name in CAPTIONERS]
        chosen = {f"untrained {name}": untrained(name, num_images=options.images) for name in names}
    results = []
    for name, (captioner, features) in chosen.items():
        results.append(measure(name, captioner, features, options, compute))
        print(describe(results[-1], beam_size=options.beam_size))
    if options.out is not None:
        about = {**compute.describe(), "torch": torch.__version__, "python": platform.python_version()}
        asked = {name: value for name, value in vars(options).items() if name != "out"}
        write_json(root / options.out, {"options": asked, "environment": about, "results": results})
        print(f"written: {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run it in the repository's root; see benchmarks/README.md.")
    parser.add_argument("--cells", nargs="+", metavar="CELL", default=[], help="of captioners, trained")
    parser.add_argument("--untrained", nargs="+", metavar="NAME", default=["lstm", "soft_attention"],
                        help="without --cells: new ones (default: lstm soft_attention)")  # fmt: skip
    parser.add_argument("--images", metavar="N", type=_positive, default=100, help="in batches (default: 100)")
    parser.add_argument("--images-alone", metavar="N", type=_positive, default=10, help="one by one (default: 10)")
    parser.add_argument("--batch-size", metavar="N", type=_positive, default=100, help="(default: 100)")
    parser.add_argument("--beam-size", metavar="N", type=_positive, default=5, help="(default: 5)")
    parser.add_argument("--rounds", metavar="N", type=_positive, default=7, help="turns of each way (default: 7)")
    parser.add_argument("--threads", metavar="N", type=_positive, default=1, help="of torch (default: 1)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32",
                        help="of every way (default: float32, as captions are made)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, help="where the figures go, as JSON")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


if __name__ == "__main__":
    guarded(main, Path())
