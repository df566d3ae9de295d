"""Networks of encoders: adapters that return the pooled vector and the last feature map, and one of fixed filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seesay.classification.networks.published import feature_map


class _MaxPool(nn.Module):
    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.amax(dim=(2, 3))


class _MeanPool(nn.Module):
    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.mean(dim=(2, 3))


max_pool, mean_pool = _MaxPool(), _MeanPool()


class BodyAdapter(nn.Module):
    """An adapter of a `body` that returns a feature map, which `pool` turns into the pooled vector."""

    def __init__(self, body: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.body, self.pool = body, pool

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        feature_map = self.body(images)
        return self.pool(feature_map), feature_map


class PublishedAdapter(nn.Module):
    """An adapter of a network of timm without its head, after `renormalise`.

    The pooled vector is the network's own where it has as many features as the map, otherwise the map's mean.
    """

    def __init__(self, network: nn.Module, renormalise: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.renormalise = renormalise

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.renormalise is not None:
            images = self.renormalise(images)
        features = self.network.forward_features(images)  # type: ignore[operator]
        maps = feature_map(self.network, features)
        pooled: Tensor = self.network.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled if pooled.shape[1] == maps.shape[1] else maps.mean(dim=(2, 3)), maps


class TiledAdapter(nn.Module):
    """An adapter of a network without feature maps: each of `grid_size` x `grid_size` tiles is an image of its own."""

    def __init__(self, network: SmallCnn, grid_size: int | None) -> None:
        super().__init__()
        self.network = network
        self.grid_size = grid_size

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        pooled: Tensor = self.network(images)
        if self.grid_size is None:
            return pooled, None
        size = self.grid_size
        side = -(-images.shape[-1] // size) * size  # the next multiple
        if images.shape[-1] != side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
        tiles = images.reshape(len(images), 3, size, side // size, size, side // size)  # (N, 3, row, y, column, x)
        features: Tensor = self.network(tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
        return pooled, features.reshape(len(images), size, size, -1).permute(0, 3, 1, 2)


_LEVELS = (0.1, 0.5, 0.9)  # per channel, so 27 reference colours
_SHARPNESS = 40.0  # of a pixel's choice among them: a distance of 0.16 makes a colour 2.7 times less likely
_GRID = 3  # regions per side that features are averaged over
_FAINTEST = 1e-12  # keeps the direction finite where there is no edge
_HARMONICS = (2, 4, 6)  # of the edge direction: bars, squares and triangles each excite one, discs none


class SmallCnn(nn.Module):
    """Areas of colours and directions of their edges, averaged over a 3x3 grid; nothing is learned.

    Each pixel is softly assigned to 27 colours. The features of each colour's map are its area, the strength of its
    edges, and the cosine and sine of 2, 4 and 6 times the edges' direction (steerable filters: Freeman and Adelson
    1991), which distinguish discs, squares and triangles. The filters are constants, so equal images give equal
    features on every machine up to rounding.
    """

    num_dimensions = len(_LEVELS) ** 3 * (2 + 2 * len(_HARMONICS)) * _GRID**2

    colours: Tensor

    def __init__(self) -> None:
        super().__init__()
        levels = torch.tensor(_LEVELS)
        self.register_buffer("colours", torch.cartesian_prod(levels, levels, levels), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features (N, 1944) of images (N, 3, H, W) with values in [0, 1]."""
        maps = self._colour_maps(images)
        smooth = F.avg_pool2d(maps, 3, stride=1, padding=1)
        across = smooth[:, :, 1:-1, 2:] - smooth[:, :, 1:-1, :-2]
        down = smooth[:, :, 2:, 1:-1] - smooth[:, :, :-2, 1:-1]
        strength = (across.square() + down.square()).clamp_min(_FAINTEST).sqrt()
        cosine, sine = across / strength, down / strength
        double = (cosine.square() - sine.square(), 2.0 * cosine * sine)  # cosine and sine of the doubled angle
        harmonics, multiple = [], double
        for _ in _HARMONICS:
            harmonics += [strength * multiple[0], strength * multiple[1]]
            # cos(a + b) and sin(a + b)
            multiple = (
                multiple[0] * double[0] - multiple[1] * double[1],
                multiple[1] * double[0] + multiple[0] * double[1],
            )
        pooled = [F.adaptive_avg_pool2d(channel, _GRID).flatten(1) for channel in (maps, strength, *harmonics)]
        return torch.cat(pooled, dim=1)

    def _colour_maps(self, images: Tensor) -> Tensor:
        """Return the share of each reference colour in each pixel, (N, 27, H, W); shares of a pixel sum to one."""
        # |x - c|^2 = |x|^2 - 2 x.c + |c|^2, and |x|^2 cancels in the softmax: a 1x1 convolution.
        weights = 2.0 * _SHARPNESS * self.colours
        bias = -_SHARPNESS * self.colours.square().sum(dim=1)
        return F.conv2d(images, weights[:, :, None, None], bias).softmax(dim=1)
