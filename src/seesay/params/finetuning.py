"""Settings of encoders that learn on together with a captioner."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from seesay.params.reading import CellName, NaturalInt, Settings
from seesay.params.references import TrainableEncoder
from seesay.params.training import Training


class FinetunedEncoder(Settings):
    """A cell of `finetune_encoder`: the encoder of a captioner's features learns with that captioner, from pixels.

    It sees images as the features' entry says, and is taught the train captions of the captioner's first dataset by the
    captioner's own settings, but for `training`. `dataset` to `encoder` are the captioner's own: they name the files
    that the stage reads, which DVC cannot look up in another entry. The first `frozen_blocks` blocks keep their
    weights, the others learn at `encoder_rate` times the captioner's learning rate. `num_workers` processes decode the
    images.
    """

    captioner: CellName
    dataset: CellName
    vocabulary: CellName
    features: CellName
    encoder: TrainableEncoder
    frozen_blocks: NaturalInt = 0
    encoder_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    num_workers: NaturalInt
    training: Training
