"""Turn one class subset of an image source into packed train, val and test splits, and report what is in them."""

from pathlib import Path

from seesay.data.packed_images import write_packed_images
from seesay.data.preparing_images import prepare_images
from seesay.files import write_json
from seesay.params.datasets import ImageDataset
from seesay.params.reading import read_section
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"image_datasets.{cell}", ImageDataset)
    paths = Paths(root)
    with record_stage(root, "prepare_images", cell, params=settings) as log:
        packed, report = prepare_images(settings, paths.raw_images(settings.source), name=cell)
        write_packed_images(paths.images(cell), packed)
        write_json(paths.data_report("prepare_images", cell), report)
        log.dataset(cell, digest=packed.digest, context="prepared", source=packed.source)
        log.summary({f"{split}/num_images": count for split, count in report["num_images"].items()})
        log.artifact(paths.data_report("prepare_images", cell))


if __name__ == "__main__":
    run(main)
