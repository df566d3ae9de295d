"""Residual networks for small images: ResNet-9 and ResNet-18."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from seesay.classification.networks.plain_cnn import ConvolutionalClassifier
from seesay.core.errors import InputError
from seesay.images.augment.pipeline import normalise

if TYPE_CHECKING:
    from seesay.images.packed import PackedImages

LOGIT_SCALE = 0.125
"""Max-pooled features are large: without this factor the first losses are far above ln(num_classes)."""

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
ActivationName = Literal["relu", "gelu", "silu"]

WHITENING_EPSILON = 1e-2
"""Added to the variances of patches of normalised images, so that directions without contrast are not blown up."""


class ResNet9(ConvolutionalClassifier):
    """David Page's ResNet-9 (DAWNBench, "How to Train Your ResNet", 2018) with a stride-2 stem for 64x64 images.

    Channels are `width` times 1, 2, 4, 8: at width 32, with 64 pixels and 30 classes, 1.65 M parameters and 95 million
    multiply-adds. Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.

    `pool_first` pools before batch norm and activation, which then see a quarter of the places. `blur_pool` smooths
    what is pooled (Zhang, 2019). `squeeze_excitation` (Hu et al., 2018) and `stochastic_depth` (Huang et al., 2016: the
    largest share of images that skip a block in training) belong to the residual blocks. `dirac` starts convolutions as
    identities where they can be, and `whitening` makes the first a frozen one, for `fit_whitening` (both: Jordan,
    2024). `evaluation_size` is the side to which images are enlarged outside of training, where objects look smaller
    than in random crops (Touvron et al., 2019).
    """

    pooling = "max"

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        width: Annotated[int, Field(ge=1)],
        activation: ActivationName = "relu",
        pool_first: bool = False,
        blur_pool: bool = False,
        squeeze_excitation: bool = False,
        stochastic_depth: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
        dirac: bool = False,
        whitening: bool = False,
        evaluation_size: Annotated[int, Field(ge=16)] | None = None,
    ) -> None:
        super().__init__()
        if image_size < 16:
            raise InputError(f"resnet9 needs an image size of at least 16, got {image_size}")
        if whitening and (width % 2 or width > 54):
            raise InputError(f"width: got {width}: expected an even number of at most 54 with whitening")
        self.evaluation_size = evaluation_size
        act = ACTIVATIONS[activation]

        def layers(channels_in: int, channels_out: int, *, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
            return [convolution, nn.BatchNorm2d(channels_out), act(inplace=True) if act is not nn.GELU else act()]

        def pooled(channels_in: int, channels_out: int) -> list[nn.Module]:
            convolution, *others = layers(channels_in, channels_out)
            pool = _BlurredMaxPool(channels_out) if blur_pool else nn.MaxPool2d(2)
            if pool_first:
                return [nn.Sequential(convolution, pool, *others)]
            return [nn.Sequential(convolution, *others), pool]

        def residual(channels: int, depth: float) -> nn.Module:
            parts: list[nn.Module] = [nn.Sequential(*layers(channels, channels)) for _ in range(2)]
            if squeeze_excitation:
                from timm.layers.squeeze_excite import SEModule  # slow import that few networks need

                parts.append(SEModule(channels))
            if depth:
                from timm.layers.drop import DropPath

                parts.append(DropPath(depth))
            return _Residual(parts)

        stem: nn.Module = _Whitening(width, act()) if whitening else nn.Sequential(*layers(3, width, stride=2))
        self.body = nn.Sequential(
            stem,
            *pooled(width, 2 * width),
            residual(2 * width, stochastic_depth / 2),
            *pooled(2 * width, 4 * width),
            *pooled(4 * width, 8 * width),
            residual(8 * width, stochastic_depth),
        )
        self.head = nn.Linear(8 * width, num_classes)
        if dirac:
            for module in self.body.modules():
                if isinstance(module, nn.Conv2d) and module.weight.requires_grad and module.kernel_size == (3, 3):
                    nn.init.dirac_(module.weight[: module.in_channels])

    def forward(self, images: Tensor) -> Tensor:
        if self.evaluation_size is not None and not self.training:
            images = F.interpolate(images, size=(self.evaluation_size,) * 2, mode="bicubic")
        pooled = self.body(images).amax(dim=(2, 3))
        logits: Tensor = self.head(pooled)
        return logits * LOGIT_SCALE


WHITENING_IMAGES = 2000
"""About as many training images show the statistics of patches: two million patches."""


def fit_whitening(network: nn.Module, images: PackedImages) -> None:
    """Fit frozen first layers in `network`, if it has any, to training images spread over all classes."""
    layers = [module for module in network.modules() if isinstance(module, _Whitening)]
    if not layers:
        return
    step = max(1, len(images.train) // WHITENING_IMAGES)
    pixels = torch.from_numpy(np.array(images.train.images[::step]))
    for layer in layers:
        layer.fit(normalise(pixels, mean=images.channel_mean, std=images.channel_std))


class _Whitening(nn.Module):
    """A frozen 3x3 convolution of stride 2 that makes patches' leading principal components uncorrelated.

    Half of the `channels` are components, scaled to variance 1; the other half are the same with the other sign, as the
    activation that follows would lose it. The filters are random until `fit`.
    """

    weight: Tensor

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.register_buffer("weight", nn.init.kaiming_normal_(torch.empty(channels, 3, 3, 3)))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.activation = activation

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.activation(F.conv2d(images, self.weight, self.bias, stride=2, padding=1))
        return outputs

    def fit(self, images: Tensor) -> None:
        """Set the filters for images, (N, 3, S, S) normalised floats."""
        moments = torch.zeros(27, 27, dtype=torch.float64, device=images.device)
        for part in torch.split(images, 256):
            patches = F.unfold(part.contiguous(), 3, stride=2).double().transpose(0, 1).flatten(1)
            moments += patches @ patches.T / patches.shape[1] * len(part) / len(images)
        variances, components = torch.linalg.eigh(moments)  # ascending
        leading = len(self.weight) // 2
        scaled = (components / (variances + WHITENING_EPSILON).sqrt()).T.flip(0)[:leading].reshape(-1, 3, 3, 3)
        self.weight.copy_(torch.cat([scaled, -scaled]))


class _BlurredMaxPool(nn.Sequential):
    """The largest of 2x2 places at every place, then every second one of the blurred map."""

    def __init__(self, channels: int) -> None:
        from timm.layers.blur_pool import BlurPool2d  # slow import that few networks need

        super().__init__(nn.MaxPool2d(2, stride=1), BlurPool2d(channels, filt_size=3, stride=2))


class _Residual(nn.Module):
    """Convolutions and what follows them, with an identity shortcut."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*parts)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = inputs + self.convolutions(inputs)
        return outputs


_LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class ResNet18(nn.Module):
    """torchvision's ResNet-18 (He et al., 2016) whose stem is one 3x3 convolution of stride `stem_stride`, no pooling.

    The original stem reduces each side to a quarter before the first block, which suits 224 pixels but not 64.
    Takes (N, 3, image_size, image_size) normalised floats, returns (N, num_classes) logits.
    """

    def __init__(
        self,
        num_classes: int,
        image_size: int,
        *,
        stem_stride: Annotated[int, Field(ge=1, le=4)],
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        from torchvision.models.resnet import BasicBlock, ResNet  # slow import that few stages need

        super().__init__()
        network = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        network.conv1 = nn.Conv2d(3, 64, 3, stride=stem_stride, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
        network.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(network.fc.in_features, num_classes))
        self.network = network

    @property
    def body(self) -> nn.Module:
        """The layers before pooling: images to feature maps (N, 512, h, w)."""
        return nn.Sequential(*(getattr(self.network, layer) for layer in _LAYERS))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits
