"""Fine-tuning of an encoder from pixels, together with the captioner that was trained on its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seesay.captioning.data.batches import ImageInputs
from seesay.captioning.data.records import CaptionRecords
from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.features.trainable import TrainableEncoder, unfreeze
from seesay.captioning.networks.end_to_end import EndToEndCaptioner
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.training.fit import fit_weights
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
    pixels: ImageInputs,
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
    """Fit the encoder and the captioner of `trained` on the train captions.

    Afterwards `trainable` has the weights of the best epoch, chosen on val by the criterion of the captioner's own
    training. `pixels` has the images by row of the captions' records; `key` names `settings` in errors. The captioner
    starts from its trained weights and keeps its feature scale. Metrics are those of `fit_captioner`. Raises
    `InputError` where all blocks are frozen or the captioner has another vocabulary, `TrainingError` where training
    fails.
    """
    trained.require_vocabulary(vocabulary.digest)
    names = unfreeze(trainable.encoder, settings.frozen_blocks, key=f"{key}.frozen_blocks")
    captioner = EndToEndCaptioner(trainable.encoder, restore_captioner(trained))
    best = fit_weights(
        captioner,
        [captions],
        pixels,
        vocabulary,
        finetuning_settings(trained, settings),
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


def finetuning_settings(trained: Checkpoint, settings: FinetunedEncoder) -> CaptionerTraining:
    """Return the captioner's own settings, for human captions of its first dataset, with the `training` of these."""
    changed: dict[str, Any] = {
        "datasets": trained.settings["datasets"][:1],
        "features": trained.settings["features"][:1],
        "start": [f"{CAPTIONERS}/{settings.captioner}"],
        "scheduled_sampling": None,
        "self_critical": None,
        "training": settings.training.model_dump(mode="json"),
    }
    merged: CaptionerTraining = validate({**trained.settings, **changed}, CaptionerTraining, where="checkpoint")
    return merged
