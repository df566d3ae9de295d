"""Fetch the pretrained weights of one network."""

from pathlib import Path

from seesay.core.stage import run
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.datasets import Weights
from seesay.sources.fetch import fetch_weights, mirror_from_environment
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    weights = read_section(root, f"weights.{cell}", Weights)
    paths = Paths(root)
    with record_stage(root, "fetch_weights", cell, params=weights) as log:
        note = fetch_weights(weights, paths.weights(cell), mirror=mirror_from_environment(), scratch=paths.scratch)
        source_path = paths.weights(cell) / "source.json"
        log.dataset(cell, digest=file_digest(source_path), context="fetched", source=note)
        log.artifact(source_path)


if __name__ == "__main__":
    run(main)
