"""Mixup and cutmix: the images of a batch are mixed with each other, and so are their labels."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from seesay.images.augment.geometry import rectangles
from seesay.params.training import Mixing
from seesay.seeding import numpy_generator, torch_generator


@dataclass(frozen=True)
class Mixes:
    """The random choices for n images.

    `own_share` is float32 (n,): the share that an image keeps of itself, 1 where it is not mixed. `is_cut` is bool
    (n,): true for a box of the partner (cutmix), false for a blend (mixup). `centre` is float32 (n, 2): the centre of
    the box, down and across, in sides. `partner` is int64 (n,): a large number, from which the partner's position
    follows once the size of the batch is known.
    """

    own_share: Tensor
    is_cut: Tensor
    centre: Tensor
    partner: Tensor

    def to(self, device: torch.device) -> Mixes:
        return Mixes(*(getattr(self, one.name).to(device, non_blocking=True) for one in fields(self)))

    def __getitem__(self, chosen: slice) -> Mixes:
        return Mixes(*(getattr(self, one.name)[chosen] for one in fields(self)))


def draw_mixes(num_images: int, settings: Mixing, *, seed: int) -> Mixes:
    """Draw the random choices for `num_images` images, on the CPU.

    Mixup and cutmix draw their shares from separate streams, so turning one off does not change the other's shares.
    """
    generator = torch_generator(seed, "mixing")
    is_mixed = torch.rand(num_images, generator=generator) < settings.probability
    coin = torch.rand(num_images, generator=generator) < 0.5
    centre = torch.rand((num_images, 2), generator=generator)
    partner = torch.randint(2**40, (num_images,), generator=generator)

    def shares(alpha: float, kind: str) -> Tensor:
        drawn = numpy_generator(seed, kind).beta(alpha, alpha, num_images) if alpha else [1.0] * num_images
        return torch.as_tensor(drawn, dtype=torch.float32)

    has_both = bool(settings.mixup_alpha and settings.cutmix_alpha)
    is_cut = coin if has_both else torch.full_like(coin, fill_value=bool(settings.cutmix_alpha))
    own_share = torch.where(is_cut, shares(settings.cutmix_alpha, "cutmix"), shares(settings.mixup_alpha, "mixup"))
    return Mixes(torch.where(is_mixed, own_share, 1.0), is_cut, centre, partner)


def mix(images: Tensor, labels: Tensor, mixes: Mixes, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mix each image with another image of the batch, and the labels in the same shares.

    `images` is float32 (n, 3, S, S), `labels` is int64 (n,), `mixes` has n entries; all are on one device. Returns
    images of the same shape, channels last in memory, and label probabilities float32 (n, num_classes).

    Mixup blends whole images (Zhang et al., 2018). Cutmix puts a box of the partner into the image (Yun et al., 2019).
    The share of the box in the area is 1 - `own_share` before the box is clipped at the image's edges. The label shares
    are those of the clipped box. A batch of one image does not change.
    """
    num_images, size = len(images), images.shape[-1]
    index = torch.arange(num_images, device=images.device)
    partner = (index + 1 + mixes.partner % max(num_images - 1, 1)) % num_images
    side = (size * (1.0 - mixes.own_share).sqrt()).long()
    start = (size * mixes.centre).long() - side[:, None] // 2
    edges = torch.stack([start, start + side[:, None]], dim=1).clamp_(0, size)  # (n, start or end, down or across)
    (top, left), (bottom, right) = (end.unbind(1) for end in edges.unbind(1))
    kept = torch.where(
        mixes.is_cut[:, None, None, None],
        ~rectangles(top, bottom, left, right, size=size),
        mixes.own_share[:, None, None, None],
    )
    planes = images.contiguous()  # blending is faster than with channels last, by more than two copies cost
    mixed = torch.lerp(planes.index_select(0, partner), planes, kept)
    cut_share = 1.0 - (bottom - top) * (right - left) / size**2
    share = torch.where(mixes.is_cut, cut_share, mixes.own_share)[:, None]
    one_hot = torch.zeros(num_images, num_classes, device=images.device).scatter_(1, labels[:, None], 1.0)
    probabilities = torch.lerp(one_hot.index_select(0, partner), one_hot, share)
    return mixed.contiguous(memory_format=torch.channels_last), probabilities
