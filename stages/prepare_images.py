"""Prepare packed train, val and test splits from an image source, or a class subset of it, and write a data report."""

import shutil
from pathlib import Path

from seesay.core.stage import run
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import write_packed_images
from seesay.images.prepare import prepare_images, summarise_report
from seesay.params.datasets import ImageDataset
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"image_datasets.{cell}", ImageDataset)
    paths = Paths(root)
    with record_stage(root, "prepare_images", cell, params=settings) as log:
        scratch = log.scratch / "pixels"
        packed, report = prepare_images(settings, paths.raw_images(settings.source), name=cell, scratch=scratch)
        write_packed_images(paths.images(cell), packed)
        shutil.rmtree(scratch)  # what is mapped stays readable
        write_json(paths.data_report("prepare_images", cell), report)
        print(f"{summarise_report(report)} (named in {paths.data_report('prepare_images', cell).relative_to(root)})")
        log.dataset(cell, digest=packed.digest, context="prepared", source=packed.source)
        log.summary({f"{split}/num_images": count for split, count in report["num_images"].items()})
        log.artifact(paths.data_report("prepare_images", cell))


if __name__ == "__main__":
    run(main)
