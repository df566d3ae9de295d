"""How good is a cell of classifiers, which has a network for each of its seeds?"""

from __future__ import annotations

from collections.abc import Sequence

from seesay.compute import Compute
from seesay.data.packed_images import PackedImages
from seesay.evaluation.class_predictions import ClassPredictions
from seesay.evaluation.classification import averaged, classification_metrics, seed_metrics, top_accuracy
from seesay.evaluation.predicting import predict_classes, predict_split
from seesay.models.checkpoint import Checkpoint
from seesay.models.classifiers import restore_classifier
from seesay.params.results import Evaluation


def measure_classifier(
    checkpoints: Sequence[Checkpoint], images: PackedImages, settings: Evaluation, *, compute: Compute
) -> tuple[ClassPredictions, dict[str, float]]:
    """The first network's answers and metrics; further networks add nothing but `seeds/...`.

    With `settings.test_time_flip` there is `test/top1_flipped`, of the mean of the probabilities for an image and its
    mirror image. Raises `InputError` where a checkpoint was trained on other classes than `images` has.
    """
    for checkpoint in checkpoints:
        checkpoint.require_classes(images.classes)
    batch_size = settings.batch_size
    classifiers = [restore_classifier(checkpoint) for checkpoint in checkpoints]
    answers = [predict_classes(one, images, batch_size=batch_size, compute=compute) for one in classifiers]
    first = answers[0]
    metrics = classification_metrics(
        first, bootstrap_resamples=settings.bootstrap_resamples, bootstrap_seed=settings.bootstrap_seed
    )
    if settings.test_time_flip:
        mirrored = predict_split(
            classifiers[0], images, images.test, batch_size=batch_size, compute=compute, mirrored=True
        )
        metrics["test/top1_flipped"] = top_accuracy(averaged(first.test, mirrored), k=1)
    return first, metrics | seed_metrics(answers)
