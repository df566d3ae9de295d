"""Random number generators. All are derived from one seed by name, so that no two uses share a stream."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for one named use of `seed`. The same names give the same seed on every machine."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, *names))


def torch_generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    import torch

    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def seed_torch(seed: int, *names: str | int) -> None:
    """Seed torch's global generators, for the parts of torch that take no generator (initialisation, dropout)."""
    import torch

    torch.manual_seed(derive_seed(seed, *names))
