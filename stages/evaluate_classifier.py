"""Measure one classifier on val and test."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.packed_images import read_packed_images
from seesay.evaluation.class_predictions import write_class_predictions
from seesay.evaluation.classification import classification_metrics, confusion_table, per_class_table
from seesay.evaluation.predicting import predict_classes
from seesay.files import write_text
from seesay.models.checkpoint import load_checkpoint
from seesay.models.classifiers import restore_classifier
from seesay.params.reading import read_section
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.reporting.classification_figures import draw_classification
from seesay.stage import run
from seesay.tracking.recorder import record_stage

STAGE = "evaluate_classifier"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.classifier(cell), kind="classifier")
    images = read_packed_images(paths.images(checkpoint.dataset))
    classifier = restore_classifier(checkpoint)
    checkpoint.require_classes(images.classes)
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=images.digest, context="evaluation", source=images.source)
        predictions = predict_classes(classifier, images, batch_size=settings.batch_size, compute=compute)
        write_class_predictions(paths.class_predictions(cell), predictions)
        write_text(paths.table(STAGE, cell, "per_class"), per_class_table(predictions.test))
        write_text(paths.table(STAGE, cell, "confusion"), confusion_table(predictions.test))
        draw_classification(paths.figures(STAGE, cell), predictions, images, paths, cell=cell, settings=settings)
        log.summary(classification_metrics(predictions))
        log.artifact(paths.figures(STAGE, cell))
        log.artifact(paths.table(STAGE, cell, "per_class"))
        log.artifact(paths.table(STAGE, cell, "confusion"))


if __name__ == "__main__":
    run(main)
