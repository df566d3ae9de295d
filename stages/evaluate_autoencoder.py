"""Evaluate an autoencoder on test: reconstructions, completed patches and latents."""

from pathlib import Path

from seesay.core.stage import run
from seesay.autoencoding.evaluate import evaluate_autoencoder, load_backbone_classifier
from seesay.autoencoding.figures.reconstructions import (
    NUM_STEPS,
    choose_pairs,
    draw_interpolations,
    draw_latents,
    draw_neighbours,
    draw_reconstructions,
)
from seesay.autoencoding.networks.registry import autoencoder_settings, restore_autoencoder
from seesay.autoencoding.reconstruct import interpolate
from seesay.compute import configure
from seesay.core.files import atomic_directory
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.ranks import in_processes
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint

STAGE = "evaluate_autoencoder"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.autoencoder(cell), kind="autoencoder")
    training_settings = autoencoder_settings(checkpoint)
    images = read_packed_images(paths.images(checkpoint.dataset))
    autoencoder = restore_autoencoder(checkpoint)
    parent = training_settings.parent
    classifier = None if parent is None else load_backbone_classifier(paths.classifier(parent), images)
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=images.digest, context="evaluation", source=images.source)
        evaluation = evaluate_autoencoder(
            autoencoder, training_settings.masking, images, settings, classifier=classifier, compute=compute
        )
        compute.ranks.leave_to_first()
        pairs = choose_pairs(images.test.labels, settings)
        strips = interpolate(autoencoder, images.test, pairs, steps=NUM_STEPS, compute=compute)
        with atomic_directory(paths.figures(STAGE, cell)) as new:
            draw_reconstructions(
                new, evaluation.reconstructions, evaluation.completion, images.test, paths, cell=cell, settings=settings
            )
            draw_neighbours(new / "neighbours.webp", evaluation.neighbours, images, cell=cell, settings=settings)
            draw_interpolations(new / "interpolations.webp", strips, pairs, images, cell=cell)
            draw_latents(new / "latents.svg", evaluation.latents.test, images, cell=cell)
        log.summary(evaluation.metrics)
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(in_processes(main))
