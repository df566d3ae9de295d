"""Speed of feature extraction compared with a plain loop, and the contribution of each optimisation.

Each variant processes the same images in turn, round by round, in one process: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from seesay.captioning.data.records import CaptionImages, open_caption_images, read_caption_records
from seesay.captioning.features.encoders import FeatureEncoder, encoder_of_network, load_feature_encoder
from seesay.captioning.features.extract import Images, extract_features
from seesay.captioning.features.origin import fetched_origin
from seesay.classification.networks.published import load_published, preprocessing_of, remove_head
from seesay.compute import Compute, configure
from seesay.core.errors import InputError
from seesay.core.files import require_writable, write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.core.stage import guarded
from seesay.images.pixels import resize_and_crop
from seesay.params.datasets import Features
from seesay.params.training import WEIGHTS, Runtime, name_in

OURS, USUAL = "seesay", "plain loop"
USUAL_BATCH_SIZE = 32


Variant = Callable[[Images], np.ndarray]
"""A function from images to their pooled features."""


@dataclass
class RowsInMemory:
    """Features in memory instead of on disk: writing takes little time, which depends on the disk."""

    num_done: int = 0
    batches: list[Mapping[str, np.ndarray]] = field(default_factory=list)

    def write(self, _start: int, features: Mapping[str, np.ndarray]) -> None:
        self.batches.append({kind: values.astype(np.float16) for kind, values in features.items()})

    def pooled(self) -> np.ndarray:
        return np.concatenate([batch["pooled"] for batch in self.batches]).astype(np.float32)


class Contiguous(nn.Module):
    """A network whose images are converted to the default memory layout."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network(images.contiguous())


class DefaultLayout(Compute):
    """A `Compute` that does not change the memory layout of weights."""

    @property
    def channels_last(self) -> bool:
        return False


class DecodedByThread:
    """Images in row order, decoded in advance by a thread of the same process."""

    def __init__(
        self, images: Images, encoder: FeatureEncoder, *, image_size: int, resize_size: int, ahead: int
    ) -> None:
        self._images = images
        self._resized = partial(
            resize_and_crop, image_size=image_size, resize_size=resize_size, interpolation=encoder.interpolation
        )
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(1)
        self._pending: deque[Future[Image.Image]] = deque()
        self._next = 0

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, _row: int) -> Image.Image:
        while self._next < len(self) and len(self._pending) < self._ahead:
            self._pending.append(self._pool.submit(self._decode, self._next))
            self._next += 1
        return self._pending.popleft().result()

    def _decode(self, row: int) -> Image.Image:
        return Image.fromarray(self._resized(self._images[row]))


def plain_loop(network: str, weights: Path, settings: Features, compute: Compute) -> Variant:
    """Return the plain loop: PIL, torchvision's transforms per image, batches of 32, float32, the network unchanged."""
    model = load_published(network, weights).eval()
    expected = preprocessing_of(model)
    remove_head(model)
    transform = v2.Compose(
        [
            v2.Resize(settings.resize_size, v2.InterpolationMode(expected.interpolation), antialias=True),
            v2.CenterCrop(settings.image_size),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(expected.mean, expected.std),
        ]
    )

    def extract(images: Images) -> np.ndarray:
        torch.set_num_threads(compute.num_threads)
        batches = []
        with torch.no_grad():
            for start in range(0, len(images), USUAL_BATCH_SIZE):
                rows = range(start, min(start + USUAL_BATCH_SIZE, len(images)))
                batches.append(model(torch.stack([transform(images[row]) for row in rows])).numpy())
        return np.concatenate(batches)

    return extract


def all_threads_on_one_batch(encoder: FeatureEncoder, settings: Features, compute: Compute) -> Variant:
    """Return our extraction with all threads on each batch, which is decoded in the same process before."""
    encoder = compute.place(encoder)

    def extract(images: Images) -> np.ndarray:
        torch.set_num_threads(compute.num_threads)
        batches = []
        resized = partial(
            resize_and_crop,
            image_size=settings.image_size,
            resize_size=settings.resize_size,
            interpolation=encoder.interpolation,
        )
        with torch.inference_mode():
            for start in range(0, len(images), settings.batch_size):
                rows = range(start, min(start + settings.batch_size, len(images)))
                pixels = torch.from_numpy(np.stack([resized(images[row]) for row in rows]))
                batches.append(encoder(pixels.permute(0, 3, 1, 2))["pooled"].numpy())
        return np.concatenate(batches)

    return extract


def ours(encoder: FeatureEncoder, settings: Features, compute: Compute, *, by_thread: bool = False) -> Variant:
    """Return our extraction, as the stage runs it; with `by_thread`, a thread decodes instead of worker processes."""
    size = {"image_size": settings.image_size, "resize_size": settings.resize_size}

    def extract(images: Images) -> np.ndarray:
        rows = RowsInMemory()
        source = DecodedByThread(images, encoder, **size, ahead=3 * settings.batch_size) if by_thread else images
        extract_features(
            encoder,
            source,
            rows,
            **size,
            batch_size=settings.batch_size,
            num_workers=0 if by_thread else settings.num_workers,
            compute=compute,
        )
        return rows.pooled()

    return extract


def unfused_encoder(network: str, weights: Path, *, grid_size: int | None) -> FeatureEncoder:
    """Load an encoder that keeps its batch norms, as one that is trained does."""
    return encoder_of_network(load_published(network, weights), grid_size=grid_size, trainable=True)


def build_variants(network: str, weights: Path, settings: Features, compute: Compute) -> dict[str, Variant]:
    """Return ours, the plain loop, and variants of ours with one change each."""

    def encoder() -> FeatureEncoder:
        return load_feature_encoder(network, weights, grid_size=settings.grid_size)

    def changed(**changes: Any) -> Features:
        return settings.model_copy(update=changes)

    with_norms = unfused_encoder(network, weights, grid_size=settings.grid_size)
    contiguous = encoder()
    contiguous.network = Contiguous(contiguous.network)
    default_layout = DefaultLayout(**vars(compute))
    named = {
        OURS: ours(encoder(), settings, compute),
        USUAL: plain_loop(network, weights, settings, compute),
        "batch norms not fused": ours(with_norms, settings, compute),
        "not channels-last": ours(contiguous, settings, default_layout),
        "bfloat16": ours(encoder(), settings, replace(compute, autocast_dtype=torch.bfloat16)),
        "decoding in the main process": ours(encoder(), changed(num_workers=0), compute),
        "decoding in a thread": ours(encoder(), settings, compute, by_thread=True),
        "all threads on one batch": all_threads_on_one_batch(encoder(), settings, compute),
        "one thread": ours(encoder(), settings, replace(compute, num_threads=1)),
    }
    if compute.num_threads == 1:
        del named["all threads on one batch"], named["one thread"]
    for batch_size in (4, 8, 16, 32, 64):
        if batch_size != settings.batch_size:
            named[f"batches of {batch_size}"] = ours(encoder(), changed(batch_size=batch_size), compute)
    return named


def core_seconds() -> float:
    """Return the processor time of this process and of its workers that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(variants: Mapping[str, Variant], images: Images, *, rounds: int) -> dict[str, Any]:
    """Measure images per second, and the distance of features from the plain loop's; the first turn is a warm-up."""
    features = {name: extract(images) for name, extract in variants.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, extract in variants.items():
            wall, cores = time.perf_counter(), core_seconds()
            extract(images)
            seconds[name].append((time.perf_counter() - wall, core_seconds() - cores))
    exact = features[USUAL]
    spread = np.linalg.norm(exact - exact.mean(axis=0))
    result: dict[str, Any] = {}
    for name, turns in seconds.items():
        ratios = [usual[0] / turn[0] for turn, usual in zip(turns, seconds[USUAL], strict=True)]
        ratios_to_ours = [our_turn[0] / turn[0] for turn, our_turn in zip(turns, seconds[OURS], strict=True)]
        result[name] = {
            "images_per_second": len(images) / statistics.median(wall for wall, _ in turns),
            "core_milliseconds_per_image": 1e3 * statistics.median(cores for _, cores in turns) / len(images),
            "times_plain_loop": statistics.median(ratios),
            "times_plain_loop_rounds": ratios,
            "times_ours": statistics.median(ratios_to_ours),
            "error": float(np.linalg.norm(features[name] - exact) / spread),
        }
    return result


def describe(result: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [f"{'':30}{'images/s':>9}{'core-ms/image':>15}{'x plain loop':>14}{'x seesay':>10}{'error':>10}"]
    for name, one in result.items():
        lines.append(
            f"{name:30}{one['images_per_second']:9.1f}{one['core_milliseconds_per_image']:15.2f}"
            f"{one['times_plain_loop']:14.2f}{one['times_ours']:10.2f}{one['error']:10.5f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="flickr8k_efficientnet", help="an entry of features in params.yaml")
    parser.add_argument("--images", type=int, default=256, help="the number of the dataset's first images to use")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-threads", type=int, help="instead of runtime's; use 1 on a busy machine")
    parser.add_argument("--only", nargs="*", default=[], help="variants besides seesay and the plain loop; empty: all")
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.out is not None:
        require_writable(options.out, option="--out")
    settings = read_section(options.root, f"features.{options.cell}", Features)
    encoder = name_in(WEIGHTS, settings.encoder)
    if encoder is None:
        expected = "an entry with the encoder weights/<name>"
        raise InputError(f"features.{options.cell}: got encoder {settings.encoder}: expected {expected}")
    paths, compute = Paths(options.root), configure(read_section(options.root, "runtime", Runtime).in_float32())
    if options.num_threads is not None:
        compute = replace(compute, num_threads=options.num_threads)
    captions = read_caption_records(paths.captions(settings.dataset))
    all_images = open_caption_images(captions, paths)
    images = CaptionImages(all_images.folder, all_images.records[: options.images])
    origin = fetched_origin(paths.weights(encoder))
    if origin.path is None:
        raise InputError(f"features.{options.cell}: expected an encoder with weights")
    selected = {
        name: variant
        for name, variant in build_variants(origin.network, origin.path, settings, compute).items()
        if not options.only or name in (OURS, USUAL, *options.only)
    }
    result = compare(selected, images, rounds=options.rounds)
    description = f"{origin.network} at {settings.image_size} pixels, batches of {settings.batch_size}"
    print(
        f"{options.cell}: {len(images)} images, {description}, {compute.num_threads} threads, {options.rounds} rounds"
    )
    print(describe(result))
    if options.out is not None:
        write_json(options.out, {"cell": options.cell, "num_images": len(images), "variants": result})


if __name__ == "__main__":
    guarded(main)
