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
    classifier = classifier.to(compute.device).eval()
    if compute.channels_last:
        classifier = classifier.to(memory_format=torch.channels_last)  # 4-d parameters only
    words = tuple(one.label for one in images.classes)

    def predict(split: ImageSplit) -> SplitPredictions:
        loaded = load_images(split, mean=images.channel_mean, std=images.channel_std, device=compute.device)
        with torch.inference_mode():
            logits = torch.cat(
                [classifier(batch).float() for batch, _ in ordered_batches(loaded, batch_size=batch_size)]
            )
        return SplitPredictions(logits.cpu().numpy(), np.array(split.labels, dtype=np.int64), words)

    return ClassPredictions(val=predict(images.val), test=predict(images.test))
