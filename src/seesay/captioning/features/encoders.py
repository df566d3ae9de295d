"""What describes an image to a captioner: a frozen network's pooled vector, and a grid of what it sees where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.features.adapters import PROBED_AT, Adapted, Pooled, Tiled, largest, mean_pool, with_map
from seesay.captioning.features.small_cnn import SmallCnn
from seesay.classification.networks.base import ConvolutionalClassifier
from seesay.classification.networks.pretrained import Pretrained
from seesay.classification.networks.registry import restore_classifier
from seesay.classification.networks.resnet18 import ResNet18
from seesay.classification.networks.torchvision_weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    find_head,
    fuse_batch_norms,
    read_torchvision_weights,
)
from seesay.core.errors import InputError
from seesay.training.checkpoint import Checkpoint

UNTRAINED_ENCODERS = {"small_cnn": SmallCnn}

_WITHOUT_GLOBAL_POOLING = (torchvision.models.AlexNet, torchvision.models.SqueezeNet, torchvision.models.VGG)

Trace = Callable[[nn.Module], nn.Module]
"""How a network in evaluation mode is taken up: with its batch norms folded away, or, to be trained, as it is."""


class FeatureEncoder(nn.Module):
    """A frozen network in evaluation mode behind its own normalisation, which keeps places apart.

    `network` takes normalised images (N, 3, H, W) to the pooled vector (N, D) and the last map before pooling
    (N, D, h, w), which is averaged to `grid_size` places a side.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        num_dimensions: int,
        grid_size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network = network
        self.num_dimensions = num_dimensions
        self.grid_size = grid_size
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Of uint8 RGB images (N, 3, H, W), float32: `pooled` (N, D) and, with a grid size G, `grid` (N, G * G, D).

        Places are in reading order: left to right, then top to bottom.
        """
        pooled, places = self.network((images.float() / 255.0 - self.mean) / self.std)
        features = {"pooled": pooled.float()}
        if self.grid_size is not None:
            grid = places.float()
            if grid.shape[2:] != (self.grid_size, self.grid_size):  # nothing to average; CUDA's way back has no order
                grid = F.adaptive_avg_pool2d(grid, self.grid_size)
            features["grid"] = grid.flatten(2).transpose(1, 2)
        return features

    def shapes(self, num_images: int) -> dict[str, tuple[int, ...]]:
        """The shape of each kind of features of that many images."""
        shapes: dict[str, tuple[int, ...]] = {"pooled": (num_images, self.num_dimensions)}
        if self.grid_size is not None:
            shapes["grid"] = (num_images, self.grid_size**2, self.num_dimensions)
        return shapes

    def check_image_size(self, image_size: int) -> None:
        """Raises `InputError` where the network takes no images of that many pixels a side."""
        device = self.mean.device
        try:
            with torch.inference_mode():
                self(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device))
        except (RuntimeError, AssertionError) as error:  # torch's words for shapes that do not fit
            reason = str(error).partition("\n")[0]
            raise InputError(f"image_size: the network takes no images of {image_size} pixels: {reason}") from None


def load_feature_encoder(network: str, weights_path: Path | None, *, grid_size: int | None) -> FeatureEncoder:
    """torchvision's network of that name with the weights in `weights_path`, or `small_cnn` with None.

    Pooled is the network's own pooled vector, what its head sees; AlexNet, VGG and SqueezeNet, which pool to no single
    vector, get their last feature map's mean. Raises `InputError` for an unknown network and for unfit weights.
    """
    if weights_path is None:
        if network not in UNTRAINED_ENCODERS:
            allowed = ", ".join(UNTRAINED_ENCODERS)
            raise InputError(f"encoder {network!r}: expected weights; without weights there is: {allowed}")
        untrained = UNTRAINED_ENCODERS[network]()
        tiled = Tiled(untrained, grid_size)
        size, zeros, ones = untrained.num_dimensions, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return FeatureEncoder(tiled, num_dimensions=size, grid_size=grid_size, mean=zeros, std=ones)
    if network in UNTRAINED_ENCODERS:
        raise InputError(f"encoder {network!r}: expected weights: null; it has none to load, got {weights_path}")
    allowed_names = torchvision.models.list_models(module=torchvision.models)
    if network not in allowed_names:
        raise InputError(f"encoder {network!r}: expected one of {', '.join(allowed_names)}")
    built = torchvision.models.get_model(network, weights=None)
    if isinstance(built, torchvision.models.MNASNet):
        # It asks for the version of its weights' layout, which does not come through; names and shapes are checked.
        built._load_from_state_dict = partial(nn.Module._load_from_state_dict, built)
    read_torchvision_weights(built, weights_path, network)
    return encoder_of_network(built, network, grid_size=grid_size)


def encoder_of_network(
    network: nn.Module, name: str, *, grid_size: int | None, trace: Trace = fuse_batch_norms
) -> FeatureEncoder:
    """torchvision's `network` of that name, which loses its linear head; its parameters stay shared with `network`
    but for those that `trace` makes new."""
    if isinstance(network, _WITHOUT_GLOBAL_POOLING):
        return _of_body(network.features, mean_pool, IMAGENET_MEAN, IMAGENET_STD, grid_size=grid_size, trace=trace)
    child, head, linear = find_head(network, name)
    setattr(network, child, nn.Sequential(*head[: head.index(linear)]))
    dimensions = linear.in_features
    return _of_torchvision(
        network, dimensions, IMAGENET_MEAN, IMAGENET_STD, f"network {name!r}", grid_size=grid_size, trace=trace
    )


def classifier_encoder(checkpoint: Checkpoint, cell: str, *, grid_size: int | None) -> FeatureEncoder:
    """The trained classifier in `checkpoint` without its head; `cell` is for errors.

    Pooled is what its head takes, for the AlexNets the mean of their last feature map: their heads take all places.
    Raises `InputError` for classifiers that keep no places: perceptrons, and ensembles, which have several networks.
    """
    return encoder_of_classifier(restore_classifier(checkpoint), checkpoint, cell, grid_size=grid_size)


def encoder_of_classifier(
    classifier: nn.Module, checkpoint: Checkpoint, cell: str, *, grid_size: int | None, trace: Trace = fuse_batch_norms
) -> FeatureEncoder:
    """As `classifier_encoder`, of the classifier restored from `checkpoint`; see `encoder_of_network`."""
    mean, std = checkpoint.normalisation["mean"], checkpoint.normalisation["std"]
    if isinstance(classifier, ConvolutionalClassifier):
        pool = {"max": largest, "mean": mean_pool}[classifier.pooling]
        return _of_body(classifier.body, pool, mean, std, grid_size=grid_size, trace=trace)
    if isinstance(classifier, ResNet18):
        network, head = classifier.network, classifier.network.fc[-1]
        network.fc = nn.Identity()
        return _of_torchvision(
            network, head.in_features, mean, std, f"classifier {cell!r}", grid_size=grid_size, trace=trace
        )
    if isinstance(classifier, Pretrained):
        linear = classifier.head[-1]
        assert isinstance(linear, nn.Linear)
        dimensions = linear.in_features
        inner = _of_torchvision(
            classifier.backbone, dimensions, mean, std, f"classifier {cell!r}", grid_size=grid_size, trace=trace
        )
        inner.network = Adapted(inner.network, classifier)
        return inner
    name = checkpoint.architecture["name"]
    raise InputError(
        f"classifier {cell!r}: its architecture {name} has no map of features to look at; expected a cell whose "
        "architecture is resnet9, resnet18, plain_cnn, alexnet, alexnet_mini or pretrained"
    )


def _of_torchvision(
    network: nn.Module,
    dimensions: int,
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
    *,
    grid_size: int | None,
    trace: Trace,
) -> FeatureEncoder:
    """An encoder of a network that has lost its linear head."""
    places = with_map(trace(network.eval()), dimensions, name)
    return FeatureEncoder(places, num_dimensions=dimensions, grid_size=grid_size, mean=mean, std=std)


def _of_body(
    body: nn.Module,
    pool: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    grid_size: int | None,
    trace: Trace,
) -> FeatureEncoder:
    """An encoder whose last feature map is all that `body` returns."""
    traced = trace(body.eval())
    with torch.inference_mode():
        dimensions = traced(torch.zeros(1, 3, PROBED_AT, PROBED_AT)).shape[1]
    return FeatureEncoder(Pooled(traced, pool), num_dimensions=dimensions, grid_size=grid_size, mean=mean, std=std)
