"""Fetch the pretrained weights of one encoder."""

from pathlib import Path

from seesay.data.fetching import fetch_weights, mirror_from_environment
from seesay.files import file_digest
from seesay.params.datasets import Encoder
from seesay.params.reading import read_section
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    encoder = read_section(root, f"encoders.{cell}", Encoder)
    paths = Paths(root)
    with record_stage(root, "fetch_weights", cell, params=encoder) as log:
        note = fetch_weights(encoder, paths.weights(cell), mirror=mirror_from_environment(), scratch=paths.scratch)
        source_path = paths.weights(cell) / "source.json"
        log.dataset(cell, digest=file_digest(source_path), context="fetched", source=note)
        log.artifact(source_path)


if __name__ == "__main__":
    run(main)
