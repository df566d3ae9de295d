"""MLflow pyfunc wrapper of a released model: `predict` calls seesay's network.

MLflow executes this file when it saves and when it loads a model ("models from code").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

BATCH_SIZE = 100
"""Number of images whose features are decoded at a time. Captions do not depend on it."""

SEED = 0
"""Seed of sampling, for captioners released to sample. Equal features at equal positions give equal captions."""


class PackagedModel(PythonModel):
    """A released model with a `predict` for each kind.

    A classifier takes images, uint8 (N, H, W, 3), and returns probabilities, float32 (N, classes), in the order of
    `classes`. An autoencoder takes the same images and returns their reconstructions, uint8 (N, H, W, 3). A captioner
    takes float features of the type it was trained on, pooled (N, D) or grid (N, L, D). It returns N captions. They are
    decoded in the same way as the captions behind its score in the registry.
    """

    def load_context(self, context: Any) -> None:
        from seesay.autoencoding.networks.registry import restore_autoencoder
        from seesay.captioning.data.vocabulary import read_vocabulary
        from seesay.captioning.networks.registry import restore_captioner
        from seesay.classification.networks.registry import restore_classifier
        from seesay.training.checkpoint import load_checkpoint

        self.kind = context.model_config["kind"]
        self.checkpoint = load_checkpoint(Path(context.artifacts["weights"]), kind=self.kind)
        self.classes = self.checkpoint.classes
        restore: dict[str, Any] = {
            "classifier": restore_classifier,
            "autoencoder": restore_autoencoder,
            "captioner": restore_captioner,
        }
        self.network = restore[self.kind](self.checkpoint)
        if self.kind == "captioner":
            from seesay.core.settings import validate
            from seesay.params.captioning import Decoding

            described = {**context.model_config["decoding"], "batch_size": BATCH_SIZE}
            self.decoding: Decoding = validate(described, Decoding, where="model_config", prefix=["decoding"])
            self.vocabulary = read_vocabulary(Path(context.artifacts["vocabulary"]))
            self.checkpoint.require_vocabulary(self.vocabulary.digest)

    # No type hints: MLflow would interpret them as a schema and reject images.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        import torch

        with torch.inference_mode():
            if self.kind == "captioner":
                return self._captions(np.array(model_input, dtype=np.float32))
            outputs = self.network(self._normalised(torch.from_numpy(np.array(model_input, dtype=np.uint8))))
            if self.kind == "classifier":
                return outputs.softmax(dim=1).numpy()
            return (outputs.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def _normalised(self, images: Any) -> Any:
        import torch

        mean, std = (torch.tensor(self.checkpoint.normalisation[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std

    def _captions(self, features: Any) -> list[str]:
        import torch

        from seesay.captioning.decoding.decode import decode  # the function that `caption_images` uses

        found = decode(self.network, torch.from_numpy(features), self.decoding, seed=SEED)
        return [" ".join(self.vocabulary.decode(candidates[0].token_ids)) for candidates in found]


set_model(PackagedModel())
