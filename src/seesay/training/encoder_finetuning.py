"""Fine-tuning of an encoder, together with the captioner that has learned from its features, from pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seesay.compute import Compute
from seesay.data.caption_batches import Seen
from seesay.data.caption_records import CaptionRecords
from seesay.data.vocabulary import Vocabulary
from seesay.models.captioners import restore_captioner
from seesay.models.checkpoint import Checkpoint
from seesay.models.construction import load_weights
from seesay.models.seeing_captioner import SeeingCaptioner
from seesay.models.trainable_encoders import TrainableEncoder, unfreeze
from seesay.params.captioning import CaptionerTraining
from seesay.params.finetuning import FinetunedEncoder
from seesay.params.reading import validate
from seesay.params.references import CAPTIONERS
from seesay.training.caption_validation import Score
from seesay.training.captioning import teach
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
