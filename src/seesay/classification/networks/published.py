"""Published networks: timm's models, their weights, preprocessing and feature maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from seesay.core.errors import InputError, did_you_mean
from seesay.images.pixels import Interpolation
from seesay.training.build import find_misfit
from seesay.training.checkpoint import load_pickled

# timm is imported in functions, since the import is slow and few stages need it.

_OF_TORCHVISION = {
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "mnasnet1_0": "mnasnet_100",
    "vit_b_16": "vit_base_patch16_224",
}
"""timm's names of networks that torchvision names otherwise."""

_NEEDED = ("forward_features", "forward_head", "reset_classifier")

Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel."""


@dataclass(frozen=True)
class Preprocessing:
    """The images that a published network expects.

    They have `image_size` pixels a side, are resized by `interpolation`, and normalised by `mean` and `std` per channel
    of RGB in [0, 1].
    """

    image_size: int
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Renormalise(nn.Module):
    """Images as a network expects them, (N, 3, `input_size`, `input_size`), from images normalised in another way."""

    scale: Tensor
    shift: Tensor

    def __init__(self, input_size: int, interpolation: Interpolation) -> None:
        super().__init__()
        self.input_size = input_size
        self.interpolation = interpolation
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
            images = F.interpolate(images, size=self.input_size, mode=self.interpolation, align_corners=False)
        return images


def build_published(name: str, *, key: str = "network") -> nn.Module:
    """Build timm's model `name`, with its head and random weights.

    Takes (N, 3, H, W) floats normalised as `preprocessing_of` says. Raises `InputError`, naming `key`, for a name that
    timm does not know, and for a model that is no classification network with feature maps before its head.
    """
    import timm

    if not timm.is_model(name):
        hint = f"; torchvision's {name} is {_OF_TORCHVISION[name]} there" if name in _OF_TORCHVISION else ""
        raise InputError(
            f"{key}: got {name!r}: expected the name of a model of timm{hint or did_you_mean(name, timm.list_models())}"
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=False)
    except RuntimeError as error:  # a tag of weights that timm does not know
        raise InputError(f"{key}: got {name!r}: {error}") from None
    if missing := [method for method in _NEEDED if not hasattr(network, method)]:
        expected = "expected a network that classifies images"
        raise InputError(f"{key}: got {name!r}: {expected}; this one has no {missing[0]}")
    return network


def load_published(name: str, path: Path) -> nn.Module:
    """Build timm's model `name` with the weights at `path`, a state dict in `.safetensors` or in torch's format.

    Weights under other names are accepted where timm knows how to convert them, or where the shapes are the same in the
    same order, as in torchvision's files of the same networks. Nothing is downloaded and no code in the file is run.
    Raises `InputError` for a file that is missing, unreadable or of another network.
    """
    network = build_published(name)
    weights = _read_weights(path, name)
    misfit = find_misfit(network.state_dict(), weights)
    if not misfit:
        network.load_state_dict(weights, strict=False)  # strict except for the counters that `find_misfit` ignores
        return network
    return _load_other_names(network, name, weights, path, misfit)


def remove_head(network: nn.Module) -> nn.Module:
    """Remove the classification layer of timm's `network`, which then returns pooled vectors (N, D); return it."""
    network.reset_classifier(0)  # type: ignore[operator]
    return network


def layers_of(network: nn.Module) -> list[list[str]]:
    """Return the names of the parameters of timm's `network` by layer, as timm groups them, from the input on."""
    from timm.models import group_parameters

    groups = group_parameters(network, network.group_matcher(coarse=False))  # type: ignore[operator]
    return [groups[index] for index in sorted(groups)]


def preprocessing_of(network: nn.Module) -> Preprocessing:
    """Return the preprocessing that timm states for `network`."""
    from timm.data.config import resolve_model_data_config

    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    interpolation: Interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    return Preprocessing(config["input_size"][-1], interpolation, config["mean"], config["std"])


def feature_map(network: nn.Module, features: Tensor) -> Tensor:
    """Return what `network.forward_features` returned as maps (N, D, h, w).

    Transformers' tokens lose the prefix, such as the class token. Raises `InputError` for a network without maps.
    """
    if not isinstance(features, Tensor):  # of several branches, as CrossViT's
        raise InputError(f"network: {type(network).__name__} has no single feature map")
    if features.dim() == 4:
        return features.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else features
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


def _load_other_names(
    network: nn.Module, name: str, weights: Mapping[str, Tensor], path: Path, misfit: str
) -> nn.Module:
    """Return timm's model `name` with `weights` under other names: converted by timm, or matched in order by shape."""
    import timm

    try:
        converted: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(weights)})
    except Exception:  # whatever timm's converters meet in a file that they were not made for
        ours, theirs = (_without_counters(state) for state in (network.state_dict(), weights))
        if [value.shape for value in ours.values()] != [value.shape for value in theirs.values()]:
            raise InputError(f"{path}: not the weights of timm's {name}: {misfit}") from None
        network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=False)
        return network
    del converted.pretrained_cfg["state_dict"]
    return cast(nn.Module, converted)


def _read_weights(path: Path, name: str) -> dict[str, Tensor]:
    """Read the state dict at `path`, of timm's model `name`."""
    what = f"a readable state dict of {name}"
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the weights of {name}") from None
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            weights: Any = load(content)
        except SafetensorError as error:
            raise InputError(f"{path}: not {what} ({error})") from None
    else:
        weights = load_pickled(path, content, what=what)
        for inner in ("state_dict", "model"):  # as some authors publish their training's checkpoint
            if isinstance(weights, Mapping) and isinstance(weights.get(inner), Mapping):
                weights = weights[inner]
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path}: expected a state dict of {name}: tensors by name")
    for key, tensor in weights.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path}: damaged: {key} has values that are not finite")
    return dict(weights)


def _without_counters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state_dict.items() if not name.endswith("num_batches_tracked")}
