"""Where in a network the maps of its convolutions come out, in the order an image passes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from seesay.models.ensemble import Ensemble


@dataclass(frozen=True)
class FeatureMaps:
    """A convolution, and what its maps have become before the next one: behind norm, nonlinearity and shortcut.

    `maps` is (n, C, h, w); `layer` is the last module they come out of that is passed only once.
    """

    convolution: nn.Conv2d
    layer: nn.Module
    maps: Tensor


def members_of(classifier: nn.Module) -> list[nn.Module]:
    """The networks an ensemble is made of; of any other classifier itself."""
    if not isinstance(classifier, Ensemble):
        return [classifier]
    return [network for member in classifier.members for network in members_of(member)]


def feature_maps(network: nn.Module, images: Tensor) -> list[FeatureMaps]:
    """The maps of each convolution for `images` (n, 3, S, S), in forward order; none for a network that has none.

    A convolution whose output is a single position (squeeze and excitation) makes no map and is left out.
    """
    passed = _passed(network, images)
    times = Counter(module for module, _ in passed)
    starts = [
        place
        for place, (module, output) in enumerate(passed)
        if isinstance(module, nn.Conv2d) and output.shape[2:].numel() > 1
    ]
    found = []
    for start, end in pairwise([*starts, len(passed)]):
        convolution, first = passed[start]
        assert isinstance(convolution, nn.Conv2d)
        # Channels may differ: shortcuts that concatenate add some. Positions do not, until something pools.
        here = [(module, output) for module, output in passed[start:end] if output.shape[2:] == first.shape[2:]]
        once = [module for module, _ in here if times[module] == 1]
        found.append(FeatureMaps(convolution, layer=once[-1] if once else convolution, maps=here[-1][1]))
    return found


def _passed(network: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """The modules that gave maps, in the order they were done, containers after what they hold."""
    passed: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            passed.append((module, output.detach().clone()))  # a copy: the next module may work in place

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return passed
