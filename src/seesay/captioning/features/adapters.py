"""Adapters returning the pooled vector and the last feature map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from seesay.captioning.features.small_cnn import SmallCnn
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
