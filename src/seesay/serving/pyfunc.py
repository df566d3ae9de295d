"""MLflow's view of a bundle: a table with a column `image` of files' bytes becomes one of labels or captions.

MLflow executes this file when it saves and when it loads a model ("models from code").
"""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from seesay.core.errors import InputError


class PackagedModel(PythonModel):
    """A released model; `predict` takes images of any size and format in a column `image`.

    A classifier returns `label` and `probability`, and the lists `labels` and `probabilities` of the `top` classes. A
    captioner returns `caption` and the list `captions` of at most `num_captions`. An autoencoder returns `image`, PNG.
    """

    def load_context(self, context: Any) -> None:
        from seesay.serving.bundle import read_bundle
        from seesay.serving.load import build

        self.model = build(read_bundle(Path(context.artifacts["bundle"])))

    # No type hints: MLflow would interpret them as a schema.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        from seesay.serving.captioner import Captioner
        from seesay.serving.predictor import Classifier

        if not hasattr(model_input, "columns") or "image" not in model_input.columns:
            raise InputError("expected a table with the column image: the bytes of an image's file in each row")
        images = [_content(value) for value in model_input["image"]]
        params = params or {}
        if isinstance(self.model, Classifier):
            found = self.model(images, top=int(params.get("top", 5)))
            rows: list[dict[str, Any]] = [
                {
                    "label": classes[0].label,
                    "probability": classes[0].score,
                    "labels": [one.label for one in classes],
                    "probabilities": [one.score for one in classes],
                }
                for classes in found
            ]
        elif isinstance(self.model, Captioner):
            captions = self.model(images, num_captions=int(params.get("num_captions", 1)))
            rows = [{"caption": one[0].text, "captions": [each.text for each in one]} for one in captions]
        else:
            rows = [{"image": _png(picture)} for picture in self.model(images)]
        return pd.DataFrame(rows)


def _content(value: Any) -> bytes:
    """Return a file's bytes, which JSON has as base64."""
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InputError("image: expected the bytes of a file; in JSON, as base64") from None


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


set_model(PackagedModel())
