"""Feature encoders: frozen networks that return an image's pooled vector and a grid of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.features.adapters import (
    BodyAdapter,
    PublishedAdapter,
    SmallCnn,
    TiledAdapter,
    max_pool,
    mean_pool,
)
from seesay.captioning.features.origin import CLASSIFIER, Origin, fetched_origin, finetuned_origin, trained_origin
from seesay.classification.networks.plain_cnn import ConvolutionalClassifier
from seesay.classification.networks.pretrained import Pretrained
from seesay.classification.networks.published import (
    Preprocessing,
    fuse_batch_norms,
    load_published,
    preprocessing_of,
    remove_head,
)
from seesay.classification.networks.registry import restore_classifier
from seesay.classification.networks.resnets import ResNet18
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.images.pixels import Interpolation
from seesay.params.training import CLASSIFIERS, FINETUNED
from seesay.training.checkpoint import Checkpoint, load_checkpoint

UNTRAINED_ENCODERS = {"small_cnn": SmallCnn}


class FeatureEncoder(nn.Module):
    """A frozen network in evaluation mode, with its normalisation of images and the interpolation that resizes them.

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
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        self.network = network
        self.num_dimensions = num_dimensions
        self.grid_size = grid_size
        self.interpolation = interpolation
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
        except (RuntimeError, AssertionError) as error:  # as torch and timm report shapes that do not fit
            reason = str(error).partition("\n")[0]
            raise InputError(f"image_size: the network accepts no images of {image_size} pixels: {reason}") from None


def find_origin(encoder: str, paths: Paths) -> Origin:
    """Return the origin of `weights/<name>`, `classifiers/<name>` or `finetuned/<name>`."""
    section, _, name = encoder.partition("/")
    if section == CLASSIFIERS:
        path = paths.classifier(name)
        trained = load_checkpoint(path, kind="classifier")
        return trained_origin(path, name, trained.architecture["name"], trained.dataset, trained.dataset_digest)
    if section == FINETUNED:
        return finetuned_origin(paths.finetuned_encoder(name))
    return fetched_origin(paths.weights(name))


def load_encoder(origin: Origin, *, grid_size: int | None) -> FeatureEncoder:
    """Load the encoder of that origin: a published network, one of our classifiers, or either of them fine-tuned."""
    if origin.network == CLASSIFIER and origin.path is not None:
        checkpoint = load_checkpoint(origin.path, kind="classifier")
        return classifier_encoder(checkpoint, origin.weights.name, grid_size=grid_size)
    return load_feature_encoder(origin.network, origin.path, grid_size=grid_size)


def load_feature_encoder(network: str, weights_path: Path | None, *, grid_size: int | None) -> FeatureEncoder:
    """Load timm's model of that name with the weights in `weights_path`, or `small_cnn` with None.

    The pooled vector is the network's own, the input of its head, where it has as many features as the last map;
    otherwise, as for VGG, the mean of that map. Raises `InputError` for an unknown network and for weights that do not
    fit.
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
    return encoder_of_network(load_published(network, weights_path), grid_size=grid_size)


def encoder_of_network(network: nn.Module, *, grid_size: int | None, trainable: bool = False) -> FeatureEncoder:
    """Return an encoder of timm's `network`, which loses its head.

    A `trainable` encoder shares its parameters with `network`; in others, batch norms are folded into convolutions.
    """
    expected = preprocessing_of(network)
    remove_head(network)
    return _encoder(network, PublishedAdapter, expected, grid_size=grid_size, trainable=trainable)


def classifier_encoder(checkpoint: Checkpoint, name: str, *, grid_size: int | None) -> FeatureEncoder:
    """Return the trained classifier in `checkpoint` without its head; error messages call it `name`.

    The pooled vector is the input of its head. The AlexNets' heads take the whole map; their pooled vector is the mean
    of the last feature map. Raises `InputError` for classifiers without a feature map: perceptrons, and ensembles,
    which have several networks.
    """
    return encoder_of_classifier(restore_classifier(checkpoint), checkpoint, name, grid_size=grid_size)


def encoder_of_classifier(
    classifier: nn.Module, checkpoint: Checkpoint, name: str, *, grid_size: int | None, trainable: bool = False
) -> FeatureEncoder:
    """Return the encoder of a `classifier` restored from `checkpoint`, as `classifier_encoder` does.

    It shares parameters with `classifier` as in `encoder_of_network`.
    """
    body: nn.Module
    adapter: Callable[[nn.Module], nn.Module]
    image_size = checkpoint.image_size
    if isinstance(classifier, ConvolutionalClassifier):
        pool = {"max": max_pool, "mean": mean_pool}[classifier.pooling]
        body, adapter = classifier.body, partial(BodyAdapter, pool=pool)
    elif isinstance(classifier, ResNet18):
        body, adapter = classifier.body, partial(BodyAdapter, pool=mean_pool)
    elif isinstance(classifier, Pretrained):
        body, adapter = classifier.backbone, partial(PublishedAdapter, renormalise=classifier.renormalise)
        image_size = classifier.renormalise.input_size
    else:
        raise InputError(
            f"classifier {name!r}: its architecture {checkpoint.architecture['name']} has no feature map; expected a "
            "classifier whose architecture is resnet9, resnet18, plain_cnn, alexnet, alexnet_mini or pretrained"
        )
    mean, std = (tuple(checkpoint.normalisation[kind]) for kind in ("mean", "std"))
    expected = Preprocessing(image_size, "bilinear", mean, std)
    return _encoder(body, adapter, expected, grid_size=grid_size, trainable=trainable)


def _encoder(
    body: nn.Module,
    adapt: Callable[[nn.Module], nn.Module],
    expected: Preprocessing,
    *,
    grid_size: int | None,
    trainable: bool,
) -> FeatureEncoder:
    """Return an encoder of a `body` and the images it expects."""
    size = expected.image_size
    adapted = adapt(body.eval() if trainable else fuse_batch_norms(body, size))
    with torch.no_grad():
        pooled, _ = adapted(torch.zeros(1, 3, size, size))
    return FeatureEncoder(
        adapted,
        num_dimensions=pooled.shape[1],
        grid_size=grid_size,
        mean=expected.mean,
        std=expected.std,
        interpolation=expected.interpolation,
    )
