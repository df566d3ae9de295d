"""Fine-tune the encoder of a captioner's features from pixels, together with that captioner."""

from dataclasses import replace
from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.batches import references_of
from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.captioning.features.extract import decoded_batches
from seesay.captioning.features.origin import CLASSIFIER, fetched_origin, write_finetuned_origin
from seesay.captioning.features.store import FeaturesIndex, read_features
from seesay.captioning.features.trainable import TrainableEncoder, trainable_classifier, trainable_network
from seesay.captioning.features.views import PixelRows
from seesay.captioning.training.experiments import finetune_encoder
from seesay.captioning.training.reward import ValidationScore
from seesay.compute import configure
from seesay.core.files import atomic_directory, file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.captioning import FinetunedEncoder
from seesay.params.training import CLASSIFIERS, WEIGHTS, Runtime, name_in
from seesay.ranks import in_processes
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"finetuned.{cell}", FinetunedEncoder)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    captions = read_caption_records(paths.captions(settings.dataset))
    vocabulary = read_vocabulary(paths.vocabulary(settings.vocabulary))
    index = read_features(paths.features(settings.features), captions).index
    trainable = start_encoder(settings, index, paths)
    captioner = load_checkpoint(paths.captioner(settings.captioner), kind="captioner")
    with record_stage(root, "finetune_encoder", cell, params=settings, seed=seed, compute=compute) as log:
        log.dataset(captions.name, digest=captions.digest, context="training", source=captions.source)
        digest = file_digest(paths.features(settings.features) / "index.json")
        log.dataset(index.weights.name, digest=digest, context="initial weights", source=index.weights)
        scratch, images = log.scratch, open_caption_images(captions, paths)
        num_images = len(captions.rows("train") + captions.rows("val"))  # these come first; test images are not read
        batches = decoded_batches(
            replace(images, records=images.records[:num_images]),
            image_size=index.transform["image_size"],
            resize_size=index.transform["resize_size"],
            interpolation=trainable.encoder.interpolation,
            batch_size=settings.training.batch_size,
            num_workers=settings.num_workers,
        )
        best = finetune_encoder(
            trainable,
            captioner,
            captions,
            PixelRows(scratch, num_images, index.transform["image_size"], batches, ranks=compute.ranks),
            vocabulary,
            settings,
            key=f"finetuned.{cell}",
            score=ValidationScore(references_of([captions], "val"), vocabulary),
            seed=seed,
            compute=compute,
            log=log,
            resume=scratch,
        )
        compute.ranks.leave_to_first()
        network = index.architecture if trainable.checkpoint is None else CLASSIFIER
        folder, names = paths.finetuned_encoder(cell), {"architecture": index.architecture, "network": network}
        with atomic_directory(folder) as temporary:
            path = temporary / "encoder.pt"
            trainable.save(path)
            write_finetuned_origin(path, cell, index.weights, captions, **names, captioner=settings.captioner)
        log.summary(best.metrics)
        log.measurement({"core_seconds": best.core_seconds})  # a time: not in the metrics file
        log.model(folder / path.name)


def start_encoder(settings: FinetunedEncoder, index: FeaturesIndex, paths: Paths) -> TrainableEncoder:
    """Return the encoder that extracted the features."""
    grid_size = None if index.grid_shape is None else round(index.grid_shape[1] ** 0.5)
    if (classifier := name_in(CLASSIFIERS, settings.encoder)) is not None:
        checkpoint = load_checkpoint(paths.classifier(classifier), kind="classifier")
        return trainable_classifier(checkpoint, classifier, grid_size=grid_size)
    weights = name_in(WEIGHTS, settings.encoder)
    assert weights is not None, "settings have seen to this"
    origin = fetched_origin(paths.weights(weights))
    assert origin.path is not None, "an encoder with weights"
    return trainable_network(origin.network, origin.path, grid_size=grid_size)


if __name__ == "__main__":
    run(in_processes(main))
