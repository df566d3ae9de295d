"""Settings of encoders that learn on together with a captioner."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from seesay.params.experiments import NONE
from seesay.params.reading import CellName, NaturalInt, Settings
from seesay.params.training import Training


class FinetunedEncoder(Settings):
    """A cell of `finetune_encoder`: the encoder of a captioner's features learns with that captioner, from pixels.

    It sees images as the features' entry says, and is taught the train captions of the captioner's dataset by the
    captioner's own settings, but for `training`. `dataset` to `classifier` repeat what the captioner and its features
    say: DVC looks names up inside an entry only. The first `frozen_blocks` blocks keep their weights, the others learn
    at `encoder_rate` times the captioner's learning rate. `num_workers` processes decode the images.
    """

    captioner: CellName
    dataset: CellName
    vocabulary: CellName
    features: CellName
    encoder: CellName
    classifier: CellName
    frozen_blocks: NaturalInt
    encoder_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    num_workers: NaturalInt
    training: Training

    @model_validator(mode="after")
    def _starts_from_one(self) -> FinetunedEncoder:
        if (self.encoder == NONE) == (self.classifier == NONE):
            raise ValueError(f"encoder and classifier: got {self.encoder} and {self.classifier}: expected one of them")
        return self
