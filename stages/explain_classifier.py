"""Explain one classifier's predictions by class maps, filters and activations."""

from pathlib import Path

from seesay.core.stage import run
from seesay.classification.explain import MAX_EXAMPLES, explain_classifier
from seesay.classification.figures.evaluation import choose_examples
from seesay.classification.figures.explanation import draw_explanation
from seesay.classification.networks.registry import restore_classifier
from seesay.classification.predictions import read_class_predictions
from seesay.compute import configure
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint

STAGE = "explain_classifier"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.classifier(cell), kind="classifier")
    images = read_packed_images(paths.images(checkpoint.dataset))
    classifier = restore_classifier(checkpoint)
    checkpoint.require_classes(images.classes)
    test = read_class_predictions(paths.class_predictions(cell)).test
    if test.labels.tolist() != images.test.labels.tolist():
        raise InputError(
            f"{paths.class_predictions(cell)}: its labels are not those of {images.name}'s test split; "
            f"run evaluate_classifier@{cell} again"
        )
    count = min(settings.panel_images, MAX_EXAMPLES)  # a subset of the examples of evaluate_classifier
    chosen = choose_examples(test.predicted == test.labels, count, seed=settings.panel_seed)
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=images.digest, context="explanation", source=images.source)
        explanation = explain_classifier(classifier, images, test.predicted, chosen, compute=compute)
        draw_explanation(paths.figures(STAGE, cell), explanation, test, images, cell=cell, settings=settings)
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(main)
