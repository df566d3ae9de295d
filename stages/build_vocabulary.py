"""Build one vocabulary from the training captions of a dataset."""

from pathlib import Path

from seesay.data.caption_records import read_caption_records
from seesay.data.vocabulary import build_vocabulary, out_of_vocabulary_rates, write_vocabulary
from seesay.params.datasets import Vocabulary
from seesay.params.reading import read_section
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"vocabularies.{cell}", Vocabulary)
    paths = Paths(root)
    captions = read_caption_records(paths.captions(settings.dataset))
    with record_stage(root, "build_vocabulary", cell, params=settings) as log:
        log.dataset(settings.dataset, digest=captions.digest, context="training", source=captions.source)
        vocabulary = build_vocabulary(captions, min_count=settings.min_count)
        write_vocabulary(paths.vocabulary(cell), vocabulary)
        log.summary({"num_tokens": len(vocabulary), **out_of_vocabulary_rates(vocabulary, captions)})


if __name__ == "__main__":
    run(main)
