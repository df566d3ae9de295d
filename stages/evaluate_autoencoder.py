"""Measure one autoencoder's reconstructions on test, beside the mean image's."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.packed_images import read_packed_images
from seesay.evaluation.reconstruction import reconstruct, reconstruction_metrics
from seesay.models.autoencoders import restore_autoencoder
from seesay.models.checkpoint import load_checkpoint
from seesay.params.reading import read_section
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.reporting.reconstruction_figures import draw_reconstructions
from seesay.stage import run
from seesay.tracking.recorder import record_stage

STAGE = "evaluate_autoencoder"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.autoencoder(cell), kind="autoencoder")
    images = read_packed_images(paths.images(checkpoint.dataset))
    autoencoder = restore_autoencoder(checkpoint)
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=images.digest, context="evaluation", source=images.source)
        reconstructions = reconstruct(autoencoder, images.test, batch_size=settings.batch_size, compute=compute)
        draw_reconstructions(
            paths.figures(STAGE, cell), reconstructions, images.test, paths, cell=cell, settings=settings
        )
        log.summary(reconstruction_metrics(reconstructions, images))
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(main)
