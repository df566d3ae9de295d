"""Evaluate one classifier on val and test."""

from pathlib import Path

from seesay.core.stage import run
from seesay.classification.evaluate import evaluate_classifier
from seesay.classification.figures.evaluation import draw_classification
from seesay.classification.metrics import confusion_table, per_class_table
from seesay.classification.networks.registry import load_members
from seesay.classification.predictions import write_class_predictions
from seesay.compute import configure
from seesay.core.files import write_text
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.ranks import in_processes
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
        predictions, metrics = evaluate_classifier(checkpoints, images, settings, compute=compute)
        compute.ranks.leave_to_first()
        write_class_predictions(paths.class_predictions(cell), predictions)
        write_text(paths.table(STAGE, cell, "per_class"), per_class_table(predictions.test))
        write_text(paths.table(STAGE, cell, "confusion"), confusion_table(predictions.test))
        draw_classification(paths.figures(STAGE, cell), predictions, images, paths, cell=cell, settings=settings)
        log.summary(metrics)
        log.artifact(paths.figures(STAGE, cell))
        log.artifact(paths.table(STAGE, cell, "per_class"))
        log.artifact(paths.table(STAGE, cell, "confusion"))


if __name__ == "__main__":
    run(in_processes(main))
