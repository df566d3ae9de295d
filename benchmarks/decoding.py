"""Speed of decoding captions in batches, compared with one image at a time.

Each way decodes with the same captioner and features, in turn, in one process: see benchmarks/README.md.
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
from seesay.core.files import require_writable, write_json
from seesay.core.paths import Paths
from seesay.core.stage import guarded
from seesay.params.captioning import Beam, Decoding, Greedy
from seesay.params.classification import Architecture
from seesay.params.training import Runtime
from seesay.training.checkpoint import load_checkpoint

BATCHED, ALONE, TEXTBOOK = "batched", "one by one", "textbook"
"""seesay's engine with a batch of images, the same with a batch of one, and a plain search for one image."""

GOALS = {"greedy": 20.0, "beam": 12.0}
"""The target speed-up of batches over one image at a time."""

SIZES: dict[str, object] = {
    "embedding_size": 512,
    "hidden_size": 512,
    "attention_size": 512,
    "dropout": 0.0,
    "embedding_dropout": 0.0,
    "tie_weights": False,
    "image_enters": "initial_state",
    "num_layers": 3,
    "num_heads": 8,
}
OTHER_SIZES: dict[str, dict[str, object]] = {"transformer": {"hidden_size": 384, "tie_weights": True}}
"""The sizes of an untrained captioner, as far as it has them, and those of single architectures."""

VOCABULARY_SIZE, FEATURE_SIZE, NUM_PLACES = 2700, 1280, 49
"""Sizes of an untrained captioner: about those for Flickr8k with MobileNetV2's features."""

MAX_LENGTH = 24
MAX_LENGTH_UNTRAINED = 12
"""An untrained captioner rarely ends a caption: all have this length, which is typical of trained ones."""

Way = Callable[[Tensor], list[Words]]
"""A way of decoding: features of n images to n captions."""


def compare_ways(ways: Mapping[str, Way], features: Mapping[str, Tensor], *, rounds: int) -> dict[str, Any]:
    """Measure images per second of each of `ways` on its `features`; each round runs all of them, in turn.

    `core_ratio` is the ratio of processor times, which is what matters on shared cores.
    """
    captions = {name: way(features[name]) for name, way in ways.items()}  # a warm-up, not measured
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    core_speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started, cores = time.perf_counter(), time.process_time()
            way(features[name])
            core_speeds[name].append(len(features[name]) / (time.process_time() - cores))
            speeds[name].append(len(features[name]) / (time.perf_counter() - started))
    return {
        "ways": {
            name: {
                "images_per_second": statistics.median(rounds_of_way),
                "rounds": rounds_of_way,
                "ratio": _median_ratio(speeds[BATCHED], rounds_of_way),
                "core_ratio": _median_ratio(core_speeds[BATCHED], core_speeds[name]),
                "same_captions": statistics.mean(
                    ours == theirs for ours, theirs in zip(captions[BATCHED], captions[name], strict=False)
                ),
            }
            for name, rounds_of_way in speeds.items()
        }
    }


def ways_of(captioner: Captioner, decoding: Greedy | Beam, *, compute: Compute) -> dict[str, Way]:
    """Return the three ways of decoding with `captioner`."""

    def engine(settings: Decoding) -> Way:
        def caption(features: Tensor) -> list[Words]:
            with compute.autocast():
                return [candidates[0].token_ids for candidates in decode(captioner, features, settings, seed=0)]

        return caption

    def textbook(features: Tensor) -> list[Words]:
        with compute.autocast():
            if isinstance(decoding, Greedy):
                return [
                    textbook_greedy(captioner, one, max_length=decoding.max_length) for one in torch.split(features, 1)
                ]
            settings = decoding.model_dump(exclude={"method", "batch_size", "rerank"})
            return [textbook_beam(captioner, one, **settings) for one in torch.split(features, 1)]

    alone = decoding.model_copy(update={"batch_size": 1})
    return {BATCHED: engine(decoding), ALONE: engine(alone), TEXTBOOK: textbook}


def load_trained(cell: str, root: Path, *, num_images: int) -> tuple[Captioner, Tensor]:
    """Load an experiment's captioner, and features of its dataset's first test images."""
    paths = Paths(root)
    checkpoint = load_checkpoint(paths.captioner(cell), kind="captioner")
    captions = read_caption_records(paths.captions(checkpoint.dataset))
    features = read_features(paths.features(checkpoint.settings["features"][0]), captions)
    captioner = restore_captioner(checkpoint)
    rows = captions.rows("test")[:num_images]
    if len(rows) < num_images:
        raise InputError(f"{captions.name}: {len(rows)} test images: expected {num_images}; use a smaller --images")
    return captioner, torch.from_numpy(features.array(captioner.looks_at)[rows].astype(np.float32))


def build_untrained(name: str, *, num_images: int) -> tuple[Captioner, Tensor]:
    """Build a new captioner of a usual size, and random features."""
    parameters = inspect.signature(CAPTIONERS[name]).parameters
    sizes = {**SIZES, **OTHER_SIZES.get(name, {})}
    architecture = Architecture(name=name, **{key: size for key, size in sizes.items() if key in parameters})
    captioner = build_captioner(
        architecture, vocabulary_size=VOCABULARY_SIZE, feature_size=FEATURE_SIZE, seed=0, key="architecture"
    )
    shape = (FEATURE_SIZE,) if captioner.looks_at == "pooled" else (NUM_PLACES, FEATURE_SIZE)
    return captioner.eval(), torch.randn(num_images, *shape, generator=torch.Generator().manual_seed(0))


def measure(name: str, captioner: Captioner, features: Tensor, options: argparse.Namespace, compute: Compute) -> Any:
    """Measure greedy and beam search of one captioner, in each way."""
    captioner, features = compute.place(captioner).eval(), features.to(compute.device)
    max_length = MAX_LENGTH if options.cells else MAX_LENGTH_UNTRAINED
    batch_size = options.batch_size
    decodings: dict[str, Greedy | Beam] = {
        "greedy": Greedy(method="greedy", max_length=max_length, batch_size=batch_size),
        "beam": Beam(
            method="beam", beam_size=options.beam_size, length_penalty=0.7, max_length=max_length, batch_size=batch_size
        ),
    }
    few = features[: options.images_alone]
    features_of_ways = {BATCHED: features, ALONE: few, TEXTBOOK: few}
    methods = {
        method: {
            "goal": GOALS[method],
            **compare_ways(ways_of(captioner, decoding, compute=compute), features_of_ways, rounds=options.rounds),
        }
        for method, decoding in decodings.items()
    }
    return {"captioner": name, "looks_at": captioner.looks_at, "max_length": max_length, "methods": methods}


def describe(result: Mapping[str, Any], *, beam_size: int) -> str:
    """Format the result of one captioner as a small table."""
    lines = [
        f"{result['captioner']}, {result['looks_at']} features, captions of {result['max_length']} words at most",
        f"  {'':20}{'images/s':>9}{'batched is faster':>19}{'in core-seconds':>17}{'same captions':>15}",
    ]
    for method, comparison in result["methods"].items():
        name = method if method == "greedy" else f"beam {beam_size}"
        for way, numbers in comparison["ways"].items():
            ratio, core_ratio = (
                "" if way == BATCHED else f"{numbers[key]:.1f} times" for key in ("ratio", "core_ratio")
            )
            speed, same = f"{numbers['images_per_second']:9.1f}", f"{numbers['same_captions']:15.0%}"
            lines.append(f"  {name:8}{way:12}{speed}{ratio:>19}{core_ratio:>17}{same}")
        lines.append(f"  {name:8}goal: {comparison['goal']:.0f} times")
    return "\n".join(lines)


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.out is not None:
        require_writable(root / options.out, option="--out")
    compute = configure(
        Runtime(
            device=options.device, precision=options.precision, num_threads=options.threads,
            deterministic=True, compile=False,
        )
    )  # fmt: skip
    if options.cells:
        captioners = {cell: load_trained(cell, root, num_images=options.images) for cell in options.cells}
    else:
        names = [name for name in options.untrained if name in CAPTIONERS]
        captioners = {f"untrained {name}": build_untrained(name, num_images=options.images) for name in names}
    results = []
    for name, (captioner, features) in captioners.items():
        results.append(measure(name, captioner, features, options, compute))
        print(describe(results[-1], beam_size=options.beam_size))
    if options.out is not None:
        environment = {**compute.describe(), "torch": torch.__version__, "python": platform.python_version()}
        chosen = {name: value for name, value in vars(options).items() if name != "out"}
        write_json(root / options.out, {"options": chosen, "environment": environment, "results": results})
        print(f"written: {options.out}")


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run it in the repository's root; see benchmarks/README.md.")
    parser.add_argument("--cells", nargs="+", metavar="CELL", default=[], help="entries of captioners, trained")
    parser.add_argument("--untrained", nargs="+", metavar="NAME", default=["lstm", "soft_attention", "transformer"],
                        help="without --cells: untrained ones (default: lstm soft_attention transformer)")  # fmt: skip
    parser.add_argument("--images", metavar="N", type=_positive, default=100,
                        help="images decoded in batches (default: 100)")  # fmt: skip
    parser.add_argument("--images-alone", metavar="N", type=_positive, default=10,
                        help="images decoded one by one (default: 10)")  # fmt: skip
    parser.add_argument("--batch-size", metavar="N", type=_positive, default=100, help="(default: 100)")
    parser.add_argument("--beam-size", metavar="N", type=_positive, default=5, help="(default: 5)")
    parser.add_argument("--rounds", metavar="N", type=_positive, default=7, help="turns of each way (default: 7)")
    parser.add_argument("--threads", metavar="N", type=_positive, default=1, help="torch threads (default: 1)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32",
                        help="of every way (default: float32, as in the pipeline)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the results to this JSON file")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


if __name__ == "__main__":
    guarded(main, Path())
