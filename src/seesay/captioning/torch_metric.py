"""Caption metrics for training loops, as a torchmetrics `Metric`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from seesay.captioning.data.tokenizer import tokenize_all, tokenize_references
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.image_scores import corpus_scores, score_images
from seesay.core.errors import InputError, shorten

METHODS = {**{f"bleu{order}": f"Bleu_{order}" for order in range(1, 5)}, "rouge_l": "ROUGE_L", "cider_d": "CIDEr"}
"""Names of the metrics in pycocoevalcap."""


class CaptionScores(Metric):
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D of all captions seen, equal to pycocoevalcap's, without Java.

    `update` takes a caption and a list of references for each image, as text. `compute` returns the corpus values,
    float32 scalars under the names of `COCOEvalCap`: `Bleu_1` to `Bleu_4` and `ROUGE_L` in [0, 1], `CIDEr` in [0, 10].

    N-grams are weighted by how few of the images have them in their references, so CIDEr is that of all images
    together, in whatever batches and processes they came; that of a single image is 0. The state is the captions
    themselves: processes gather them before computing.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    captions: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A line of JSON for each batch, as bytes: torchmetrics gathers tensors only.
        self.add_state("captions", default=[], dist_reduce_fx="cat")

    def update(self, preds: str | Sequence[str], target: Sequence[str | Sequence[str]]) -> None:
        """Add captions: `preds` has one for each image, `target` one or more references for each.

        Raises `InputError` if their lengths differ, an image has no reference or a caption is not text.
        """
        predictions = [preds] if isinstance(preds, str) else list(preds)
        references = [[of_image] if isinstance(of_image, str) else list(of_image) for of_image in target]
        if len(predictions) != len(references):
            raise InputError(f"CaptionScores: {len(predictions)} captions and references of {len(references)} images")
        for caption, of_image in zip(predictions, references, strict=True):
            if not of_image:
                raise InputError(
                    f"CaptionScores: expected at least one reference for each image, got {references!r:.80}"
                )
            for text in (caption, *of_image):
                if not isinstance(text, str):
                    raise InputError(f"CaptionScores: got {shorten(text)}: expected text")
        line = json.dumps([predictions, references]) + "\n"
        self.captions.append(torch.frombuffer(bytearray(line.encode("ascii")), dtype=torch.uint8).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the corpus values; raises `InputError` if there were no captions."""
        lines = b"".join(part.cpu().numpy().tobytes() for part in _parts(self.captions)).splitlines()
        batches = [json.loads(line) for line in lines]
        predictions = tokenize_all([caption for of_batch, _ in batches for caption in of_batch])
        references = tokenize_references([of_image for _, of_batch in batches for of_image in of_batch])
        if not predictions:
            raise InputError("CaptionScores: no captions yet: call update first")
        scores = corpus_scores(score_images(predictions, references, CiderReferences(references)))
        return {METHODS[key]: torch.tensor(value, device=self.device) for key, value in scores.items()}

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the captions of all processes, of which some may have none."""
        if not self.captions:
            self.captions.append(torch.zeros(0, dtype=torch.uint8, device=self.device))
        super().sync(*args, **kwargs)


def _parts(captions: list[Tensor] | Tensor) -> list[Tensor]:
    """Return the state as a list, which gathering turns into one tensor."""
    return [captions] if isinstance(captions, Tensor) else captions
