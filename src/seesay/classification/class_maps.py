"""Which parts of an image speak for a class: Grad-CAM, or gradients at the input where there is no convolution."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam, Saliency
from torch import Tensor, nn

from seesay.classification.networks.ensemble import Ensemble

NEIGHBOURHOOD = 5
"""Pixels a side over which gradients at the input are averaged."""


@dataclass(frozen=True)
class ClassMaps:
    """`maps`: float32 (n, S, S) in [0, 1], each image's largest value 1, or all 0 where nothing speaks for the class.

    They are Grad-CAM or, where `is_grad_cam` is false, gradients at the input; means over `num_networks`, more than one
    for ensembles.
    """

    is_grad_cam: bool
    num_networks: int
    maps: np.ndarray


def class_maps(classifier: nn.Module, images: Tensor, classes: Tensor) -> ClassMaps:
    """How much each place of `images` (n, 3, S, S), normalised, speaks for the class in `classes` (n,).

    Grad-CAM (Selvaraju et al., 2017) on the maps behind the last convolution, enlarged bilinearly. A classifier without
    convolutions has no such maps: there it is the largest absolute gradient of the class's logit over a pixel's three
    channels (Simonyan et al., 2014), averaged over its neighbourhood, since single pixels are noise. Ensembles: the
    mean over their members' maps, each scaled to its own maximum.
    """
    networks = members_of(classifier)
    layers = [found[-1].layer if (found := feature_maps(one, images[:1])) else None for one in networks]
    pairs = [(network, layer) for network, layer in zip(networks, layers, strict=True) if layer is not None]
    if pairs:
        maps = [_grad_cam(network, layer, images, classes) for network, layer in pairs]
    else:
        maps = [_input_gradient(network, images, classes) for network in networks]
    mean = _scaled(torch.stack([_scaled(one) for one in maps]).mean(dim=0))
    return ClassMaps(bool(pairs), len(maps), mean.cpu().numpy())


def _grad_cam(network: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    inputs = images.detach().clone().requires_grad_()  # else nothing has a gradient in a network that is frozen
    coarse = LayerGradCam(network, layer).attribute(inputs, target=classes, relu_attributions=True)
    maps: Tensor = LayerGradCam.interpolate(coarse.detach(), tuple(images.shape[2:]), interpolate_mode="bilinear")
    return maps[:, 0]


def _input_gradient(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    inputs = images.detach().clone().requires_grad_()
    gradients: Tensor = Saliency(network).attribute(inputs, target=classes)
    strongest = gradients.detach().amax(dim=1)
    return F.avg_pool2d(strongest, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2, count_include_pad=False)


def _scaled(maps: Tensor) -> Tensor:
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


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
