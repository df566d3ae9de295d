"""Measure one classifier on val and test."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.packed_images import read_packed_images
from seesay.evaluation.class_predictions import write_class_predictions
from seesay.evaluation.classification import confusion_table, per_class_table
from seesay.evaluation.measuring import measure_classifier
from seesay.files import write_text
from seesay.models.classifiers import load_members
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
    checkpoints = load_members(paths.classifiers_of(cell))
    dataset = checkpoints[0].dataset
    images = read_packed_images(paths.images(dataset))
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(dataset, digest=images.digest, context="evaluation", source=images.source)
        predictions, metrics = measure_classifier(checkpoints, images, settings, compute=compute)
        write_class_predictions(paths.class_predictions(cell), predictions)
        write_text(paths.table(STAGE, cell, "per_class"), per_class_table(predictions.test))
        write_text(paths.table(STAGE, cell, "confusion"), confusion_table(predictions.test))
        draw_classification(paths.figures(STAGE, cell), predictions, images, paths, cell=cell, settings=settings)
        log.summary(metrics)
        log.artifact(paths.figures(STAGE, cell))
        log.artifact(paths.table(STAGE, cell, "per_class"))
        log.artifact(paths.table(STAGE, cell, "confusion"))


if __name__ == "__main__":
    run(main)
