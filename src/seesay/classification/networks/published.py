"""Published networks: timm's models, their weights, preprocessing and feature maps."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from seesay.core.errors import InputError

# timm is imported in functions, since the import is slow and few stages need it.


Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel."""


@dataclass(frozen=True)
class Preprocessing:
    """The images that a published network was trained on.

    Square crops of `image_size` pixels a side out of images whose shorter side has `resize_size` pixels, normalised by
    `mean` and `std` per channel of RGB in [0, 1].
    """

    image_size: int
    resize_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Renormalise(nn.Module):
    """Images normalised by one mean and standard deviation to those of another, (N, 3, `input_size`, `input_size`)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.register_buffer("scale", torch.ones(3, 1, 1))
        self.register_buffer("shift", torch.zeros(3, 1, 1))

    def set_statistics(self, ours: Statistics, theirs: Statistics) -> None:
        """Set the mean and standard deviation of the images, `ours`, and of the result, `theirs`."""
        (our_mean, our_std), (their_mean, their_std) = (torch.tensor(one).view(2, 3, 1, 1) for one in (ours, theirs))
        self.scale.copy_(our_std / their_std)
        self.shift.copy_((our_mean - their_mean) / their_std)

    def forward(self, images: Tensor) -> Tensor:
        images = images * self.scale + self.shift
        if images.shape[-1] != self.input_size:
            images = F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)
        return images


def build_published(name: str, *, key: str = "network") -> nn.Module:
    """Build timm's model `name`, with its head and random weights.

    Takes (N, 3, H, W) floats normalised as `preprocessing_of` says. Raises `InputError`, naming `key`, for a name that
    timm does not know.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(f"{key}: got {name!r}: expected the name of a model of timm{hint}")
    try:
        network: nn.Module = timm.create_model(name, pretrained=False)
    except RuntimeError as error:  # a tag of weights that timm does not know
        raise InputError(f"{key}: got {name!r}: {error}") from None
    return network


def load_published(name: str, path: Path) -> nn.Module:
    """Build timm's model `name` with the weights in the state dict at `path`, `.safetensors` or `.pth`.

    Weights under other names are accepted where they have the same shapes in the same order: torchvision's files of the
    same networks. Pickled code is never executed. Raises `InputError` for a file that is missing, unreadable or of
    another network.
    """
    import timm

    network = build_published(name)
    weights = _read_state_dict(path, name)
    expected = network.state_dict()
    if misfit := _misfit(expected, weights):
        try:  # timm knows the names in other files of the same network
            network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)})
        except Exception:  # whatever timm's filters meet in a file that they were not made for
            if [value.shape for value in expected.values()] != [value.shape for value in weights.values()]:
                raise InputError(f"{path}: not the weights of timm's {name}: {misfit}") from None
            network.load_state_dict(dict(zip(expected, weights.values(), strict=True)))
        return network
    network.load_state_dict(dict(weights), strict=False)  # strict except for the counters that `_misfit` ignores
    return network


def remove_head(network: nn.Module) -> nn.Module:
    """Remove the classification layer of timm's `network`, which then returns pooled vectors (N, D); return it."""
    network.reset_classifier(0)  # type: ignore[operator]
    return network


def preprocessing_of(network: nn.Module) -> Preprocessing:
    """Return the preprocessing that timm states for `network`."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(network)
    size = config["input_size"][-1]
    return Preprocessing(size, math.floor(size / config["crop_pct"]), config["mean"], config["std"])


def feature_map(network: nn.Module, features: Tensor) -> Tensor:
    """Return what `network.forward_features` returned as maps (N, D, h, w).

    Transformers' tokens lose the prefix, such as the class token. Raises `InputError` for a network without maps.
    """
    dimensions = network.num_features
    if features.dim() == 4:
        return features if features.shape[1] == dimensions else features.permute(0, 3, 1, 2)
    if features.dim() == 3:
        tokens = features[:, int(getattr(network, "num_prefix_tokens", 0)) :].transpose(1, 2)
        side = math.isqrt(tokens.shape[2])
        if side**2 == tokens.shape[2]:
            return tokens.reshape(*tokens.shape[:2], side, side)
    raise InputError(f"network: {type(network).__name__} has no square feature map: got {tuple(features.shape)}")


def fuse_batch_norms(network: nn.Module, image_size: int) -> nn.Module:
    """Return a copy of `network`, in evaluation mode, with batch norms folded into the convolutions before them.

    This reduces memory traffic: on two cores MobileNetV2 goes from 90 to 170 images a second at 224 px. A norm is
    folded if its input is a convolution's output for an image of `image_size` pixels, and nothing is folded if the
    copy's outputs then differ.
    """
    network = network.eval()
    fused = deepcopy(network)
    names = {module: name for name, module in fused.named_modules()}
    image = torch.linspace(-1, 1, 3 * image_size**2).view(1, 3, image_size, image_size)
    for convolution, norm in _norms_after_convolutions(fused, image):
        _replace(fused, names[convolution], fuse_conv_bn_eval(convolution, norm))
        # timm's norms include the nonlinearity
        after = [layer for part in ("drop", "act") if (layer := getattr(norm, part, None)) is not None]
        _replace(fused, names[norm], nn.Sequential(*after) if after else nn.Identity())
    with torch.no_grad():
        same = torch.allclose(network(image), fused(image), rtol=1e-3, atol=1e-4)
    return fused if same else network


def _norms_after_convolutions(network: nn.Module, image: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each batch norm that is called with the output of a convolution, with that convolution."""
    outputs: list[tuple[Tensor, nn.Conv2d]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def remember(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs.append((output, module))
        elif isinstance(module, nn.BatchNorm2d):
            pairs.extend((convolution, module) for made, convolution in outputs if made is inputs[0])

    hooks = [module.register_forward_hook(remember) for module in network.modules()]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)


def _read_state_dict(path: Path, name: str) -> Mapping[str, Tensor]:
    from timm.models import load_state_dict

    try:
        weights = load_state_dict(str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the weights of {name}") from None
    except Exception as error:  # as torch, pickle and safetensors report what is damaged
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a readable state dict of {name} ({reason})") from None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path}: expected a state dict of {name}: tensors by name")
    return weights


def _misfit(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> str:
    """Return the first difference between two state dicts, or an empty string."""
    for name, tensor in expected.items():
        if name not in actual:
            if not name.endswith("num_batches_tracked"):  # files older than this counter lack it
                return f"{name} is missing"
        elif actual[name].shape != tensor.shape:
            return f"{name} has shape {tuple(actual[name].shape)}, expected {tuple(tensor.shape)}"
    unknown = [name for name in actual if name not in expected]
    return f"{unknown[0]} is unknown" if unknown else ""
