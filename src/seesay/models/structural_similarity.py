"""How alike two images are in structure (SSIM)."""

from __future__ import annotations

from torch import Tensor

from seesay.errors import InputError

WINDOW = 11


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of each pair of images, (n,), at most 1, which equal images have; (n, 3, H, W) floats in [0, 1].

    torchmetrics': the mean over channels and over all places of a Gaussian window of 11 pixels a side and a deviation
    of 1.5, the image reflected at its border, with the constants of the paper (Wang et al., 2004). Gradients go through
    it. Raises `InputError` for images too small to be reflected so far.
    """
    # It takes seconds to import, which training without SSIM in its loss need not wait for.
    from torchmetrics.functional.image import structural_similarity_index_measure

    reach = WINDOW // 2
    if min(first.shape[-2:]) <= reach:
        raise InputError(f"SSIM: got images of {tuple(first.shape[-2:])} pixels: expected more than {reach} a side")
    found = structural_similarity_index_measure(
        first, second, gaussian_kernel=True, sigma=1.5, kernel_size=WINDOW, data_range=1.0, reduction="none"
    )
    assert isinstance(found, Tensor)  # a pair of them only where the whole map is asked for too
    return found
