"""Extract the features of all images of one caption dataset with a frozen encoder."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.features.encoders import find_origin, load_encoder
from seesay.captioning.features.extract import Images, extract_features
from seesay.captioning.features.rows import FeatureRows
from seesay.captioning.features.store import num_rows_with_views, write_features
from seesay.captioning.features.views import ViewedImages
from seesay.compute import configure
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.datasets import Features
from seesay.params.training import Runtime
from seesay.ranks import in_processes
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"features.{cell}", Features)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    captions = read_caption_records(paths.captions(settings.dataset))
    images: Images = open_caption_images(captions, paths)
    names = [record.file_name for record in captions.records]
    origin = find_origin(settings.encoder, paths)
    encoder = load_encoder(origin, grid_size=settings.grid_size)
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
        rows = None
        if compute.ranks.is_first:
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
        compute.ranks.leave_to_first()
        assert rows is not None, "rank 0 has them"
        normalisation = {"mean": encoder.mean.flatten().tolist(), "std": encoder.std.flatten().tolist()}
        features, explained = write_features(
            paths.features(cell), rows.finish(), captions, settings, origin, normalisation
        )
        write_json(paths.data_report("extract_features", cell), features.report())
        log.summary({"num_images": len(features), "num_dimensions": features.num_dimensions, **explained})


if __name__ == "__main__":
    run(in_processes(main))
