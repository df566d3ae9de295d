"""What MLflow runs when a released model is loaded from its registry: seesay's network behind pyfunc's `predict`.

MLflow executes this file when it saves and when it loads a model ("models from code").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class PackagedModel(PythonModel):  # type: ignore[misc]
    """`predict` takes images, uint8 (N, H, W, 3).

    A classifier returns probabilities, float32 (N, classes), in the order of `classes`; an autoencoder the images
    reconstructed, uint8 (N, H, W, 3).
    """

    def load_context(self, context: Any) -> None:
        from seesay.models.autoencoders import restore_autoencoder
        from seesay.models.checkpoint import load_checkpoint
        from seesay.models.classifiers import restore_classifier

        restore = {"classifier": restore_classifier, "autoencoder": restore_autoencoder}
        kind = context.model_config["kind"]
        checkpoint = load_checkpoint(Path(context.artifacts["weights"]), kind=kind)
        if kind not in restore:
            raise NotImplementedError(
                f"a {kind} has inputs of its own: load {context.artifacts['weights']} with seesay"
            )
        self.network = restore[kind](checkpoint)
        self.kind, self.classes, self.normalisation = kind, checkpoint.classes, checkpoint.normalisation

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        import torch

        images = torch.from_numpy(np.array(model_input, dtype=np.uint8)).permute(0, 3, 1, 2).float() / 255
        if self.normalisation:
            mean, std = (torch.tensor(self.normalisation[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
            images = (images - mean) / std
        with torch.inference_mode():
            outputs = self.network(images)
        if self.kind == "classifier":
            return np.asarray(outputs.softmax(dim=1))
        return np.asarray((outputs.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1))


set_model(PackagedModel())
