"""What a trained classifier says of val and test."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from seesay.compute import Compute
from seesay.data.image_batches import load_images, ordered_batches
from seesay.data.packed_images import ImageSplit, PackedImages
from seesay.evaluation.class_predictions import ClassPredictions, SplitPredictions


def predict_classes(
    classifier: nn.Module, images: PackedImages, *, batch_size: int, compute: Compute
) -> ClassPredictions:
    """Logits for every image of val and test, in the splits' order, in float32: less precision moves decisions."""
    return ClassPredictions(
        val=predict_split(classifier, images, images.val, batch_size=batch_size, compute=compute),
        test=predict_split(classifier, images, images.test, batch_size=batch_size, compute=compute),
    )


def predict_split(
    classifier: nn.Module,
    images: PackedImages,
    split: ImageSplit,
    *,
    batch_size: int,
    compute: Compute,
    mirrored: bool = False,
) -> SplitPredictions:
    """Logits for every image of one split of `images`, or for its mirror image (left and right exchanged)."""
    classifier = compute.place(classifier).eval()
    loaded = load_images(split, mean=images.channel_mean, std=images.channel_std, device=compute.device)
    batches = (batch for batch, _ in ordered_batches(loaded, batch_size=batch_size))
    with torch.inference_mode():
        logits = torch.cat([classifier(batch.flip(3) if mirrored else batch).float() for batch in batches])
    words = tuple(one.label for one in images.classes)
    return SplitPredictions(logits.cpu().numpy(), np.array(split.labels, dtype=np.int64), words)
