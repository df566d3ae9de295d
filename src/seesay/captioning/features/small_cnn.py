"""A small convolutional network of fixed filters: the offline encoder, in place of pretrained weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = (0.1, 0.5, 0.9)  # per channel, so 27 reference colours
_SHARPNESS = 40.0  # of a pixel's choice among them: a distance of 0.16 makes a colour 2.7 times less likely
_GRID = 3  # cells a side: where in the image something is
_FAINTEST = 1e-12  # keeps the direction of no edge at all finite
_HARMONICS = (2, 4, 6)  # of the edge direction: bars, squares and triangles each excite one, discs none


class SmallCnn(nn.Module):
    """Colours, their areas and the directions of their edges, averaged over a 3x3 grid; nothing in it is learnt.

    Each pixel is softly assigned to 27 colours; of each colour's map it keeps the area, the strength of its edges, and
    cosine and sine of 2, 4 and 6 times the edges' direction (steerable filters: Freeman and Adelson 1991), which tell
    discs from squares from triangles. The filters are constants, so equal images give equal features on every machine
    up to rounding.
    """

    num_dimensions = len(_LEVELS) ** 3 * (2 + 2 * len(_HARMONICS)) * _GRID**2

    colours: Tensor

    def __init__(self) -> None:
        super().__init__()
        levels = torch.tensor(_LEVELS)
        self.register_buffer("colours", torch.cartesian_prod(levels, levels, levels), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (N, 1944) of images (N, 3, H, W) with values in [0, 1]."""
        maps = self._colour_maps(images)
        smooth = F.avg_pool2d(maps, 3, stride=1, padding=1)
        across = smooth[:, :, 1:-1, 2:] - smooth[:, :, 1:-1, :-2]
        down = smooth[:, :, 2:, 1:-1] - smooth[:, :, :-2, 1:-1]
        strength = (across.square() + down.square()).clamp_min(_FAINTEST).sqrt()
        cosine, sine = across / strength, down / strength
        twice = (cosine.square() - sine.square(), 2.0 * cosine * sine)
        harmonics, turned = [], twice
        for _ in _HARMONICS:
            harmonics += [strength * turned[0], strength * turned[1]]
            # cos(a + b) and sin(a + b)
            turned = turned[0] * twice[0] - turned[1] * twice[1], turned[1] * twice[0] + turned[0] * twice[1]
        pooled = [F.adaptive_avg_pool2d(channel, _GRID).flatten(1) for channel in (maps, strength, *harmonics)]
        return torch.cat(pooled, dim=1)

    def _colour_maps(self, images: Tensor) -> Tensor:
        """How much each pixel is of each reference colour, (N, 27, H, W), adding up to one per pixel."""
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, and |x|^2 cancels in the softmax: a convolution of one pixel.
        weights = 2.0 * _SHARPNESS * self.colours
        bias = -_SHARPNESS * self.colours.square().sum(dim=1)
        return F.conv2d(images, weights[:, :, None, None], bias).softmax(dim=1)
