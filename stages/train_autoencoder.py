"""Train one convolutional autoencoder."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.packed_images import read_packed_images
from seesay.models.autoencoders import build_autoencoder
from seesay.models.checkpoint import save_checkpoint
from seesay.params.experiments import Autoencoder
from seesay.params.reading import read_section
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage
from seesay.training.reconstruction import fit_autoencoder


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"autoencoders.{cell}", Autoencoder)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    images = read_packed_images(paths.images(settings.dataset))
    autoencoder = build_autoencoder(
        settings.architecture, image_size=images.image_size, seed=seed, key=f"autoencoders.{cell}.architecture"
    )
    with record_stage(root, "train_autoencoder", cell, params=settings, seed=seed, compute=compute) as log:
        log.dataset(settings.dataset, digest=images.digest, context="training", source=images.source)
        best = fit_autoencoder(autoencoder, images, settings, seed=seed, compute=compute, log=log, resume=log.scratch)
        save_checkpoint(paths.autoencoder(cell), best)
        log.summary(best.metrics)
        log.model(paths.autoencoder(cell))


if __name__ == "__main__":
    run(main)
