"""See every image of one caption dataset through a frozen encoder, once."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.caption_records import open_caption_images, read_caption_records
from seesay.data.features import write_features
from seesay.data.sources import read_source
from seesay.files import file_digest, write_json
from seesay.models.encoder import load_encoder
from seesay.models.extraction import extract_features
from seesay.params.datasets import Encoder, Features
from seesay.params.reading import read_section
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"features.{cell}", Features)
    encoder_settings = read_section(root, f"encoders.{settings.encoder}", Encoder)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    captions = read_caption_records(paths.captions(settings.dataset))
    images = open_caption_images(captions, paths)
    weights = encoder_settings.weights
    encoder = load_encoder(
        encoder_settings.architecture, None if weights is None else paths.weights(settings.encoder) / weights.name
    )
    with record_stage(root, "extract_features", cell, params=settings, compute=compute) as log:
        log.dataset(settings.dataset, digest=captions.digest, context="features", source=captions.source)
        weights_folder = paths.weights(settings.encoder)
        weights_digest = file_digest(weights_folder / "source.json")
        log.dataset(
            settings.encoder, digest=weights_digest, context="encoder weights", source=read_source(weights_folder)
        )
        pooled = extract_features(
            encoder,
            images,
            image_size=settings.image_size,
            resize_size=settings.resize_size,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            compute=compute,
        )
        features = write_features(
            paths.features(cell),
            pooled,
            captions,
            settings,
            weights_folder,
            architecture=encoder_settings.architecture,
            mean=encoder.mean.flatten().tolist(),
            std=encoder.std.flatten().tolist(),
        )
        write_json(paths.data_report("extract_features", cell), features.report())
        log.summary({"num_images": len(features), "num_dimensions": features.num_dimensions})


if __name__ == "__main__":
    run(main)
