"""What a method that has learned nothing puts into a hole: its surroundings, carried on (OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np


def inpaint(images: np.ndarray, hidden: np.ndarray, *, radius: int) -> np.ndarray:
    """`images`, uint8 (n, S, S, 3), with the pixels where `hidden`, bool (n, S, S), filled from what is around them.

    OpenCV's Navier-Stokes inpainting (Bertalmio et al., 2001) with a neighbourhood of `radius` pixels. Hidden pixels
    are blackened first, so that nothing of them can count.
    """
    shown = np.where(hidden[..., None], np.uint8(0), images)
    filled = [
        cv2.inpaint(np.ascontiguousarray(image), mask.astype(np.uint8), radius, cv2.INPAINT_NS)
        for image, mask in zip(shown, hidden, strict=True)
    ]
    return np.stack(filled)
