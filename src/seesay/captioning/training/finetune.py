"""Fine-tuning of an encoder, together with the captioner that has learned from its features, from pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seesay.captioning.data.batches import Seen
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.features.trainable import TrainableEncoder, unfreeze
from seesay.captioning.networks.end_to_end import SeeingCaptioner
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.training.fit import teach
from seesay.captioning.training.validation import Score
from seesay.compute import Compute
from seesay.core.settings import validate
from seesay.params.captioning import CaptionerTraining, FinetunedEncoder
from seesay.params.references import CAPTIONERS
from seesay.training.build import load_weights
from seesay.training.checkpoint import Checkpoint
from seesay.training.loop import Fit, Log


def finetune_encoder(
    trainable: TrainableEncoder,
    trained: Checkpoint,
    captions: CaptionRecords,
    pixels: Seen,
    vocabulary: Vocabulary,
    settings: FinetunedEncoder,
    *,
    key: str,
    score: Score,
    seed: int,
    compute: Compute,
    log: Log,
    resume: Path | None,
) -> Fit:
    """Fits the encoder and the captioner in `trained` on the train captions; `trainable` has the best epoch's weights
    afterwards, that by val captions as the captioner was judged by.

    `pixels` has the images by row of the captions' records, `key` names `settings` in errors. The captioner goes on
    from its weights and its scale of features. Metrics are those of `fit_captioner`. Raises `InputError` where all
    blocks are frozen and for another vocabulary than the captioner's, `TrainingError` where training goes wrong.
    """
    trained.require_vocabulary(vocabulary.digest)
    names = unfreeze(trainable.encoder, settings.frozen_blocks, key=f"{key}.frozen_blocks")
    captioner = SeeingCaptioner(trainable.encoder, restore_captioner(trained))
    best = teach(
        captioner,
        [captions],
        pixels,
        vocabulary,
        taught_as(trained, settings),
        score=score,
        reward=None,
        seed=seed,
        compute=compute,
        log=log,
        resume=resume,
        rate_scales={f"encoder.{name}": settings.encoder_rate for name in names},
    )
    load_weights(captioner, best.state_dict)
    return best


def taught_as(trained: Checkpoint, settings: FinetunedEncoder) -> CaptionerTraining:
    """The captioner's own settings, for human captions of its first dataset, with this cell's `training`."""
    changed: dict[str, Any] = {
        "datasets": trained.settings["datasets"][:1],
        "features": trained.settings["features"][:1],
        "start": f"{CAPTIONERS}/{settings.captioner}",
        "scheduled_sampling": None,
        "self_critical": None,
        "training": settings.training.model_dump(mode="json"),
    }
    learned: CaptionerTraining = validate({**trained.settings, **changed}, CaptionerTraining, where="checkpoint")
    return learned
