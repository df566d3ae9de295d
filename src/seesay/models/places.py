"""What stands around a network so that it gives a pooled vector and the map before, which keeps places apart."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from seesay.models.pretrained import Pretrained
from seesay.models.small_cnn import SmallCnn


class _Largest(nn.Module):
    def forward(self, places: Tensor) -> Tensor:
        return places.amax(dim=(2, 3))


class _Mean(nn.Module):
    def forward(self, places: Tensor) -> Tensor:
        return places.mean(dim=(2, 3))


largest, mean_pool = _Largest(), _Mean()


class Pooled(nn.Module):
    """A map, and its pooled vector before it."""

    def __init__(self, body: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.body, self.pool = body, pool

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        places = self.body(images)
        return self.pool(places), places


class Adapted(nn.Module):
    """What `Pretrained` does to images before its backbone sees them."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: nn.Module, classifier: Pretrained) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_size = classifier.input_size
        self.register_buffer("scale", classifier.scale.clone())
        self.register_buffer("shift", classifier.shift.clone())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = images * self.scale + self.shift
        if images.shape[-1] != self.input_size:
            images = F.interpolate(images, size=self.input_size, mode="bilinear", align_corners=False)
        pooled, places = self.backbone(images)
        return pooled, places


class Tiled(nn.Module):
    """A network without maps looks at each place as at an image of its own."""

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
        seen: Tensor = self.network(tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2))
        return pooled, seen.reshape(len(images), size, size, -1).permute(0, 3, 1, 2)
