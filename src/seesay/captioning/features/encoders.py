"""Feature encoders: frozen networks that return an image's pooled vector and a grid of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.features.adapters import (
    PROBE_SIZE,
    BodyAdapter,
    PretrainedAdapter,
    TiledAdapter,
    max_pool,
    mean_pool,
    with_feature_map,
)
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

Trace = Callable[[nn.Module], nn.Module]
"""A tracing of a network in evaluation mode: with its batch norms fused, or, for training, unchanged."""


class FeatureEncoder(nn.Module):
    """A frozen network in evaluation mode, with its normalisation of images.

    `network` maps normalised images (N, 3, H, W) to the pooled vector (N, D) and the last feature map before pooling
    (N, D, h, w), which is averaged to a grid of `grid_size` x `grid_size` positions.
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
        """Return the features of uint8 RGB images (N, 3, H, W), in float32.

        They are `pooled` (N, D) and, with a grid size G, `grid` (N, G * G, D). Grid positions are in reading order:
        left to right, then top to bottom.
        """
        pooled, feature_map = self.network((images.float() / 255.0 - self.mean) / self.std)
        features = {"pooled": pooled.float()}
        if self.grid_size is not None:
            grid = feature_map.float()
            # Equal sizes need no averaging, whose backward pass is nondeterministic on CUDA.
            if grid.shape[2:] != (self.grid_size, self.grid_size):
                grid = F.adaptive_avg_pool2d(grid, self.grid_size)
            features["grid"] = grid.flatten(2).transpose(1, 2)
        return features

    def shapes(self, num_images: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each kind of features of that many images."""
        shapes: dict[str, tuple[int, ...]] = {"pooled": (num_images, self.num_dimensions)}
        if self.grid_size is not None:
            shapes["grid"] = (num_images, self.grid_size**2, self.num_dimensions)
        return shapes

    def check_image_size(self, image_size: int) -> None:
        """Raise `InputError` if the network does not accept images of that many pixels per side."""
        device = self.mean.device
        try:
            with torch.inference_mode():
                self(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8, device=device))
        except (RuntimeError, AssertionError) as error:  # as torch and torchvision report shapes that do not fit
            reason = str(error).partition("\n")[0]
            raise InputError(f"image_size: the network accepts no images of {image_size} pixels: {reason}") from None


def load_feature_encoder(network: str, weights_path: Path | None, *, grid_size: int | None) -> FeatureEncoder:
    """Load torchvision's network of that name with the weights in `weights_path`, or `small_cnn` with None.

    The pooled vector is the network's own, the input of its head. AlexNet, VGG and SqueezeNet do not pool to a single
    vector; theirs is the mean of the last feature map. Raises `InputError` for an unknown network and for weights that
    do not fit.
    """
    if weights_path is None:
        if network not in UNTRAINED_ENCODERS:
            allowed = ", ".join(UNTRAINED_ENCODERS)
            raise InputError(f"encoder {network!r}: expected weights, which only {allowed} does without")
        untrained = UNTRAINED_ENCODERS[network]()
        adapter = TiledAdapter(untrained, grid_size)
        size, zeros, ones = untrained.num_dimensions, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return FeatureEncoder(adapter, num_dimensions=size, grid_size=grid_size, mean=zeros, std=ones)
    if network in UNTRAINED_ENCODERS:
        raise InputError(f"encoder {network!r}: expected weights: null; it has no weights, got {weights_path}")
    import torchvision  # slow import that few stages need

    allowed_names = torchvision.models.list_models(module=torchvision.models)
    if network not in allowed_names:
        raise InputError(f"encoder {network!r}: expected one of {', '.join(allowed_names)}")
    built = torchvision.models.get_model(network, weights=None)
    if isinstance(built, torchvision.models.MNASNet):
        # Its own method needs the version of the weights' layout, which is lost here; names and shapes are checked.
        built._load_from_state_dict = partial(nn.Module._load_from_state_dict, built)
    read_torchvision_weights(built, weights_path, network)
    return encoder_of_network(built, network, grid_size=grid_size)


def encoder_of_network(
    network: nn.Module, name: str, *, grid_size: int | None, trace: Trace = fuse_batch_norms
) -> FeatureEncoder:
    """Return an encoder of torchvision's `network` of that name, which loses its linear head.

    The encoder shares its parameters with `network`, except those that `trace` creates.
    """
    from torchvision.models import VGG, AlexNet, SqueezeNet

    if isinstance(network, AlexNet | SqueezeNet | VGG):  # without global pooling
        return _body_encoder(network.features, mean_pool, IMAGENET_MEAN, IMAGENET_STD, grid_size=grid_size, trace=trace)
    child, head, linear = find_head(network, name)
    setattr(network, child, nn.Sequential(*head[: head.index(linear)]))
    dimensions = linear.in_features
    return _traced_encoder(
        network, dimensions, IMAGENET_MEAN, IMAGENET_STD, f"network {name!r}", grid_size=grid_size, trace=trace
    )


def classifier_encoder(checkpoint: Checkpoint, name: str, *, grid_size: int | None) -> FeatureEncoder:
    """Return the trained classifier in `checkpoint` without its head; error messages call it `name`.

    The pooled vector is the input of its head. The AlexNets' heads take the whole map; their pooled vector is the mean
    of the last feature map. Raises `InputError` for classifiers without a feature map: perceptrons, and ensembles,
    which have several networks.
    """
    return encoder_of_classifier(restore_classifier(checkpoint), checkpoint, name, grid_size=grid_size)


def encoder_of_classifier(
    classifier: nn.Module, checkpoint: Checkpoint, name: str, *, grid_size: int | None, trace: Trace = fuse_batch_norms
) -> FeatureEncoder:
    """Return the encoder of a `classifier` restored from `checkpoint`, as `classifier_encoder` does.

    It shares parameters with `classifier` as in `encoder_of_network`.
    """
    mean, std = checkpoint.normalisation["mean"], checkpoint.normalisation["std"]
    if isinstance(classifier, ConvolutionalClassifier):
        pool = {"max": max_pool, "mean": mean_pool}[classifier.pooling]
        return _body_encoder(classifier.body, pool, mean, std, grid_size=grid_size, trace=trace)
    if isinstance(classifier, ResNet18):
        network, head = classifier.network, classifier.network.fc[-1]
        network.fc = nn.Identity()
        return _traced_encoder(
            network, head.in_features, mean, std, f"classifier {name!r}", grid_size=grid_size, trace=trace
        )
    if isinstance(classifier, Pretrained):
        linear = classifier.head[-1]
        assert isinstance(linear, nn.Linear)
        dimensions = linear.in_features
        encoder = _traced_encoder(
            classifier.backbone, dimensions, mean, std, f"classifier {name!r}", grid_size=grid_size, trace=trace
        )
        encoder.network = PretrainedAdapter(encoder.network, classifier)
        return encoder
    raise InputError(
        f"classifier {name!r}: its architecture {checkpoint.architecture['name']} has no feature map; expected a "
        "classifier whose architecture is resnet9, resnet18, plain_cnn, alexnet, alexnet_mini or pretrained"
    )


def _traced_encoder(
    network: nn.Module,
    dimensions: int,
    mean: Sequence[float],
    std: Sequence[float],
    name: str,
    *,
    grid_size: int | None,
    trace: Trace,
) -> FeatureEncoder:
    """Return an encoder of a network without its linear head, whose feature map is found by tracing."""
    adapted = with_feature_map(trace(network.eval()), dimensions, name)
    return FeatureEncoder(adapted, num_dimensions=dimensions, grid_size=grid_size, mean=mean, std=std)


def _body_encoder(
    body: nn.Module,
    pool: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    grid_size: int | None,
    trace: Trace,
) -> FeatureEncoder:
    """Return an encoder of a `body` that returns its last feature map."""
    traced = trace(body.eval())
    with torch.inference_mode():
        dimensions = traced(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE)).shape[1]
    adapter = BodyAdapter(traced, pool)
    return FeatureEncoder(adapter, num_dimensions=dimensions, grid_size=grid_size, mean=mean, std=std)
