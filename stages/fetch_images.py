"""Fetch one image source: official archives, user-supplied images or generated drawings."""

from pathlib import Path

from seesay.core.stage import run
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.datasets import ImageSource
from seesay.sources.fetch import fetch_image_source, mirror_from_environment
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    source = read_section(root, f"image_sources.{cell}", ImageSource)
    paths = Paths(root)
    with record_stage(root, "fetch_images", cell, params=source) as log:
        note = fetch_image_source(
            source, paths.raw_images(cell), mirror=mirror_from_environment(), scratch=paths.scratch, root=root
        )
        source_path = paths.raw_images(cell) / "source.json"
        log.dataset(cell, digest=file_digest(source_path), context="fetched", source=note)
        log.artifact(source_path)


if __name__ == "__main__":
    run(main)
