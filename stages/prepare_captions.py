"""Prepare one caption source: write its records, split by image, and a data report."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.prepare import prepare_captions
from seesay.captioning.data.records import write_caption_records
from seesay.core.files import write_json
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.datasets import CaptionDataset
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"caption_datasets.{cell}", CaptionDataset)
    paths = Paths(root)
    with record_stage(root, "prepare_captions", cell, params=settings) as log:
        captions, report = prepare_captions(settings, paths.raw_captions(cell), name=cell, root=root)
        write_caption_records(paths.captions(cell), captions)
        write_json(paths.data_report("prepare_captions", cell), report)
        log.dataset(cell, digest=captions.digest, context="prepared", source=captions.source)
        log.summary({f"{split}/num_images": count for split, count in report["num_images"].items()})
        log.summary({f"{split}/num_captions": count for split, count in report["num_captions"].items()})
        log.artifact(paths.data_report("prepare_captions", cell))


if __name__ == "__main__":
    run(main)
