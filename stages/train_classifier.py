"""Train one classifier."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.packed_images import read_packed_images
from seesay.models.checkpoint import save_checkpoint
from seesay.models.classifiers import build_classifier
from seesay.params.experiments import Classifier
from seesay.params.reading import read_section
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage
from seesay.training.classification import fit_classifier


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"classifiers.{cell}", Classifier)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    images = read_packed_images(paths.images(settings.dataset))
    classifier = build_classifier(
        settings.architecture,
        num_classes=images.num_classes,
        image_size=images.image_size,
        seed=seed,
        key=f"classifiers.{cell}.architecture",
    )
    with record_stage(root, "train_classifier", cell, params=settings, seed=seed, compute=compute) as log:
        log.dataset(settings.dataset, digest=images.digest, context="training", source=images.source)
        best = fit_classifier(classifier, images, settings, seed=seed, compute=compute, log=log, resume=log.scratch)
        save_checkpoint(paths.classifier(cell), best)
        log.summary(best.metrics)
        log.model(paths.classifier(cell))


if __name__ == "__main__":
    run(main)
