"""Explain an autoencoder: its encoder's maps, and their correlation with low reconstruction error."""

from pathlib import Path

from seesay.core.stage import run
from seesay.autoencoding.evaluate import load_backbone_classifier
from seesay.autoencoding.explain import explain_autoencoder
from seesay.autoencoding.figures.encoder_maps import draw_encoder_maps
from seesay.autoencoding.networks.registry import autoencoder_settings, restore_autoencoder
from seesay.autoencoding.reconstruct import evaluation_masks, reconstruct
from seesay.classification.networks.registry import restore_classifier
from seesay.compute import configure
from seesay.core.paths import Paths
from seesay.core.settings import PositiveInt, read_section
from seesay.images.packed import read_packed_images
from seesay.params.results import EncoderMaps
from seesay.params.training import Runtime
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint

STAGE = "explain_autoencoder"


def main(cell: str, root: Path = Path()) -> None:
    batch_size = read_section(root, "evaluation.batch_size", PositiveInt)
    settings = read_section(root, "encoder_maps", EncoderMaps)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.autoencoder(cell), kind="autoencoder")
    training_settings, autoencoder = autoencoder_settings(checkpoint), restore_autoencoder(checkpoint)
    images = read_packed_images(paths.images(checkpoint.dataset))
    parent, masking, hidden = training_settings.parent, training_settings.masking, None
    classifier = None if parent is None else load_backbone_classifier(paths.classifier(parent), images)
    if masking is not None:
        hidden = evaluation_masks(masking, "test", len(images.test), image_size=images.image_size)
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=images.digest, context="explanation", source=images.source)
        reconstructions = reconstruct(autoencoder, images.test, batch_size=batch_size, compute=compute, hidden=hidden)
        explanation = explain_autoencoder(
            autoencoder,
            None if classifier is None else restore_classifier(classifier),
            images,
            reconstructions.squared_errors,
            settings,
            hidden=hidden,
            masking=masking,
            batch_size=batch_size,
            compute=compute,
        )
        folder = paths.figures(STAGE, cell)
        draw_encoder_maps(folder, explanation, reconstructions, images, hidden=hidden, cell=cell, settings=settings)
        log.summary(explanation.metrics())
        log.artifact(folder)


if __name__ == "__main__":
    run(main)
