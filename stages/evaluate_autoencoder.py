"""Measure one autoencoder on test: what it draws, what it completes, what its latents say."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.packed_images import read_packed_images
from seesay.evaluation.autoencoder_measuring import load_backbone_classifier, measure_autoencoder
from seesay.evaluation.interpolation import interpolate
from seesay.files import atomic_directory
from seesay.models.autoencoders import autoencoder_settings, restore_autoencoder
from seesay.models.checkpoint import load_checkpoint
from seesay.params.reading import read_section
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.reporting.latent_figures import NUM_STEPS, choose_pairs, draw_interpolations, draw_latents, draw_neighbours
from seesay.reporting.reconstruction_figures import draw_reconstructions
from seesay.stage import run
from seesay.tracking.recorder import record_stage

STAGE = "evaluate_autoencoder"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.autoencoder(cell), kind="autoencoder")
    learned = autoencoder_settings(checkpoint)
    images = read_packed_images(paths.images(checkpoint.dataset))
    autoencoder = restore_autoencoder(checkpoint)
    parent = learned.parent
    classifier = None if parent is None else load_backbone_classifier(paths.classifier(parent), images)
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=images.digest, context="evaluation", source=images.source)
        measured = measure_autoencoder(
            autoencoder, learned.masking, images, settings, classifier=classifier, compute=compute
        )
        pairs = choose_pairs(images.test.labels, settings)
        strips = interpolate(autoencoder, images.test, pairs, steps=NUM_STEPS, compute=compute)
        with atomic_directory(paths.figures(STAGE, cell)) as new:
            draw_reconstructions(
                new, measured.reconstructions, measured.completion, images.test, paths, cell=cell, settings=settings
            )
            draw_neighbours(new / "neighbours.webp", measured.neighbours, images, cell=cell, settings=settings)
            draw_interpolations(new / "interpolations.webp", strips, pairs, images, cell=cell)
            draw_latents(new / "latents.svg", measured.latents.test, images, cell=cell)
        log.summary(measured.metrics)
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(main)
