"""Train an autoencoder, from scratch or on the backbone of a classifier."""

from pathlib import Path

from seesay.core.stage import run
from seesay.autoencoding.training.experiments import train_autoencoder
from seesay.compute import configure
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.autoencoding import Autoencoder
from seesay.params.training import Runtime
from seesay.ranks import in_processes
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import save_checkpoint


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"autoencoders.{cell}", Autoencoder)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    images = read_packed_images(paths.images(settings.dataset))
    with record_stage(root, "train_autoencoder", cell, params=settings, seed=seed, compute=compute) as log:
        log.dataset(settings.dataset, digest=images.digest, context="training", source=images.source)
        trained = train_autoencoder(
            cell, settings, images, paths, seed=seed, compute=compute, log=log, resume=log.scratch
        )
        compute.ranks.leave_to_first()
        save_checkpoint(paths.autoencoder(cell), trained.checkpoint)
        log.summary(trained.checkpoint.metrics)
        log.measurement({"core_seconds": trained.core_seconds})  # a time, so never in the metrics file
        log.model(paths.autoencoder(cell))


if __name__ == "__main__":
    run(in_processes(main))
