"""How many images a second does each classifier take, alone and in batches?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

import psutil
import torch
from torch import Tensor, nn

from seesay.compute import Compute
from seesay.params import results

_IMAGES_PER_VISIT = 64
"""A visit passes at least this many images: one small network's pass over one image is too short to time."""

_MEMORY_SHARE = 0.5


def measure_throughput(
    classifiers: Mapping[str, tuple[nn.Module, int]], settings: results.Comparison, *, compute: Compute
) -> dict[str, float]:
    """`<cell>/images_per_second_batch<n>`: the median over rounds; `classifiers` are (network, image size) by cell.

    Each round visits every classifier with every batch size: taking turns spreads what else the machine does over all
    of them. What would need more than half of the free memory is left out.
    """
    networks = {}
    layout = torch.channels_last if compute.channels_last else torch.contiguous_format
    for cell, (classifier, image_size) in classifiers.items():
        networks[cell] = (compute.place(classifier).eval(), image_size)
    seconds: dict[tuple[str, int], list[float]] = {}
    with torch.inference_mode():
        for round_ in range(settings.throughput_repeats + 1):
            for cell, (classifier, size) in networks.items():
                for batch_size in settings.throughput_batch_sizes:
                    if round_ and (cell, batch_size) not in seconds:
                        continue  # it did not fit
                    images = torch.zeros(batch_size, 3, size, size, device=compute.device).to(memory_format=layout)
                    if round_ == 0 and not _fits(classifier, images):
                        continue
                    taken = _seconds_per_pass(classifier, images, num_passes=max(1, _IMAGES_PER_VISIT // batch_size))
                    times = seconds.setdefault((cell, batch_size), [])
                    if round_:  # the first is for warming up
                        times.append(taken)
    return {
        f"{cell}/images_per_second_batch{batch_size}": batch_size / statistics.median(times)
        for (cell, batch_size), times in seconds.items()
    }


def _seconds_per_pass(classifier: nn.Module, images: Tensor, *, num_passes: int) -> float:
    started = time.perf_counter()
    for _ in range(num_passes):
        classifier(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return (time.perf_counter() - started) / num_passes


def _fits(classifier: nn.Module, images: Tensor) -> bool:
    """Whether a pass over `images` is safe: it holds about three of the largest layer's outputs at once."""
    largest = 0

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, Tensor):
            largest = max(largest, output.numel() * output.element_size())

    hooks = [module.register_forward_hook(note) for module in classifier.modules()]
    classifier(images[:1])
    for hook in hooks:
        hook.remove()
    if images.device.type == "cuda":
        free = torch.cuda.mem_get_info(images.device)[0]
    else:
        free = psutil.virtual_memory().available
    return 3 * largest * len(images) <= _MEMORY_SHARE * free
