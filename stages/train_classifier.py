"""Train one classifier, once for each of its seeds; or build an ensemble of another experiment's classifiers."""

from pathlib import Path

from seesay.core.stage import run
from seesay.classification.training.experiments import train_classifiers
from seesay.compute import configure
from seesay.core.files import atomic_directory, file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.classification import Classifier
from seesay.params.training import Runtime
from seesay.ranks import in_processes
from seesay.sources.provenance import SOURCE_FILE, read_source
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import save_checkpoint


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"classifiers.{cell}", Classifier)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    images = read_packed_images(paths.images(settings.dataset))
    with record_stage(root, "train_classifier", cell, params=settings, seed=seed, compute=compute) as log:
        log.dataset(settings.dataset, digest=images.digest, context="training", source=images.source)
        if settings.weights is not None:
            source_file = paths.weights(settings.weights) / SOURCE_FILE
            source, digest = read_source(source_file.parent), file_digest(source_file)
            log.dataset(settings.weights, digest=digest, context="initial weights", source=source)
        trained = train_classifiers(
            cell, settings, images, paths, seed=seed, compute=compute, log=log, resume=log.scratch
        )
        compute.ranks.leave_to_first()
        with atomic_directory(paths.classifiers_of(cell)) as folder:
            for index, checkpoint in enumerate(trained.checkpoints):
                save_checkpoint(folder / f"{index}.pt", checkpoint)
        log.summary(trained.checkpoints[0].metrics)
        # Times vary between runs and never go into the metrics file.
        log.measurement({"core_seconds": trained.core_seconds[0], "core_seconds_all_seeds": sum(trained.core_seconds)})
        log.model(paths.classifier(cell))


if __name__ == "__main__":
    run(in_processes(main))
