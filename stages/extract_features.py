"""Extract the features of all images of one caption dataset with a frozen encoder."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.features.encoders import FeatureEncoder, classifier_encoder, load_feature_encoder
from seesay.captioning.features.extract import Images, extract_features
from seesay.captioning.features.origin import CLASSIFIER, Origin, fetched_origin, finetuned_origin, trained_origin
from seesay.captioning.features.rows import FeatureRows
from seesay.captioning.features.store import num_rows_with_views, write_features
from seesay.captioning.features.views import ViewedImages
from seesay.compute import configure
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.datasets import Features
from seesay.params.references import CLASSIFIERS, FINETUNED
from seesay.params.training import Runtime
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"features.{cell}", Features)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    captions = read_caption_records(paths.captions(settings.dataset))
    images: Images = open_caption_images(captions, paths)
    names = [record.file_name for record in captions.records]
    encoder, origin = load_encoder(settings, paths)
    encoder.check_image_size(settings.image_size)
    if settings.views is not None:
        train = captions.rows("train")
        images = ViewedImages(
            images, train, settings.views, size=settings.image_size, interpolation=encoder.interpolation
        )
        names += [names[row] for row in train] * settings.views.count
    with record_stage(root, "extract_features", cell, params=settings, compute=compute) as log:
        log.dataset(settings.dataset, digest=captions.digest, context="features", source=captions.source)
        log.dataset(origin.weights.name, digest=origin.digest, context="encoder weights", source=origin.weights)
        rows = FeatureRows(
            log.scratch,
            encoder.shapes(num_rows_with_views(captions, settings)),
            fingerprint_parts=[
                settings.model_dump_json(),
                captions.digest,
                origin.digest,
                *compute.describe().values(),
            ],
            names=names,
        )
        extract_features(
            encoder,
            images,
            rows,
            image_size=settings.image_size,
            resize_size=settings.resize_size,
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            compute=compute,
        )
        normalisation = {"mean": encoder.mean.flatten().tolist(), "std": encoder.std.flatten().tolist()}
        features, explained = write_features(
            paths.features(cell), rows.finish(), captions, settings, origin, normalisation
        )
        write_json(paths.data_report("extract_features", cell), features.report())
        log.summary({"num_images": len(features), "num_dimensions": features.num_dimensions, **explained})


def load_encoder(settings: Features, paths: Paths) -> tuple[FeatureEncoder, Origin]:
    """Load the encoder that `settings` name; return it with the origin of its weights.

    It is a published network, one of our classifiers, or either of them fine-tuned.
    """
    section, _, name = settings.encoder.partition("/")
    if section == CLASSIFIERS:
        path = paths.classifier(name)
        trained = load_checkpoint(path, kind="classifier")
        architecture, trained_on = trained.architecture["name"], (trained.dataset, trained.dataset_digest)
        origin = trained_origin(path, name, architecture, *trained_on)
    elif section == FINETUNED:
        origin = finetuned_origin(paths.finetuned_encoder(name))
    else:
        origin = fetched_origin(paths.weights(name))
    if origin.network == CLASSIFIER and origin.path is not None:
        checkpoint = load_checkpoint(origin.path, kind="classifier")
        return classifier_encoder(checkpoint, origin.weights.name, grid_size=settings.grid_size), origin
    return load_feature_encoder(origin.network, origin.path, grid_size=settings.grid_size), origin


if __name__ == "__main__":
    run(main)
