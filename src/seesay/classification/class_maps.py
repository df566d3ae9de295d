"""Class maps: Grad-CAM, or gradients at the input for networks without convolutions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam, Saliency
from torch import Tensor, nn

from seesay.classification.networks.registry import Ensemble

NEIGHBOURHOOD = 5
"""Side, in pixels, of the window over which gradients at the input are averaged."""


@dataclass(frozen=True)
class ClassMaps:
    """The evidence for a class at each pixel of n images.

    `maps` are float32 (n, S, S) in [0, 1]. Each image's largest value is 1, or all are 0 where no pixel supports the
    class. They are Grad-CAM or, where `is_grad_cam` is false, gradients at the input. They are means over
    `num_networks` networks, of which only ensembles have more than one.
    """

    is_grad_cam: bool
    num_networks: int
    maps: np.ndarray


@dataclass(frozen=True)
class FeatureMaps:
    """A convolution and its feature maps right before the next one, after norm, nonlinearity and shortcut.

    `maps` is (n, C, h, w). `layer` is the last module that outputs maps of this size and is called only once.
    """

    convolution: nn.Conv2d
    layer: nn.Module
    maps: Tensor


def class_maps(classifier: nn.Module, images: Tensor, classes: Tensor) -> ClassMaps:
    """Compute the evidence for `classes` (n,) at each pixel of normalised `images` (n, 3, S, S).

    The maps are Grad-CAM (Selvaraju et al., 2017) on the feature maps after the last convolution, enlarged bilinearly.
    For a classifier without convolutions they are the largest absolute gradient of the class's logit over a pixel's
    three channels (Simonyan et al., 2014), averaged over a neighbourhood because single pixels are noisy. For an
    ensemble they are the mean of its members' maps, each scaled to its own maximum.
    """
    networks = members_of(classifier)
    layers = [maps[-1].layer if (maps := feature_maps(network, images[:1])) else None for network in networks]
    pairs = [(network, layer) for network, layer in zip(networks, layers, strict=True) if layer is not None]
    if pairs:
        maps_of_networks = [_grad_cam(network, layer, images, classes) for network, layer in pairs]
    else:
        maps_of_networks = [_input_gradient(network, images, classes) for network in networks]
    mean = _scale_to_maximum(torch.stack([_scale_to_maximum(maps) for maps in maps_of_networks]).mean(dim=0))
    return ClassMaps(bool(pairs), len(maps_of_networks), mean.cpu().numpy())


def members_of(classifier: nn.Module) -> list[nn.Module]:
    """Return the networks of an ensemble; for any other classifier, the classifier itself."""
    if not isinstance(classifier, Ensemble):
        return [classifier]
    return [network for member in classifier.members for network in members_of(member)]


def feature_maps(network: nn.Module, images: Tensor) -> list[FeatureMaps]:
    """Compute the maps of each convolution for `images` (n, 3, S, S), in forward order.

    The list is empty for a network without convolutions. Convolutions whose output is a single position (squeeze and
    excitation) are left out.
    """
    calls = _module_outputs(network, images)
    num_calls = Counter(module for module, _ in calls)
    starts = [
        index
        for index, (module, output) in enumerate(calls)
        if isinstance(module, nn.Conv2d) and output.shape[2:].numel() > 1
    ]
    layers = []
    for start, end in pairwise([*starts, len(calls)]):
        convolution, first = calls[start]
        assert isinstance(convolution, nn.Conv2d)
        # Pooling, which changes the size, ends a layer. Channels may change: concatenating shortcuts add some.
        same_size = [(module, output) for module, output in calls[start:end] if output.shape[2:] == first.shape[2:]]
        called_once = [module for module, _ in same_size if num_calls[module] == 1]
        layer = called_once[-1] if called_once else convolution
        layers.append(FeatureMaps(convolution, layer=layer, maps=same_size[-1][1]))
    return layers


def _grad_cam(network: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    inputs = images.detach().clone().requires_grad_()  # otherwise a frozen network has no gradients at all
    coarse = LayerGradCam(network, layer).attribute(inputs, target=classes, relu_attributions=True)
    maps: Tensor = LayerGradCam.interpolate(coarse.detach(), tuple(images.shape[2:]), interpolate_mode="bilinear")
    return maps[:, 0]


def _input_gradient(network: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    inputs = images.detach().clone().requires_grad_()
    gradients: Tensor = Saliency(network).attribute(inputs, target=classes)
    strongest = gradients.detach().amax(dim=1)
    return F.avg_pool2d(strongest, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2, count_include_pad=False)


def _scale_to_maximum(maps: Tensor) -> Tensor:
    """Divide each map of (n, S, S) by its maximum; maps of zeros stay as they are."""
    return maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def _module_outputs(network: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Return the modules that output maps, with these, in the order they finish: containers follow their children."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            calls.append((module, output.detach().clone()))  # a copy: the next module may work in place

    hooks = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
