"""Build one vocabulary from the training captions of one dataset or of two."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.records import read_caption_records, shared_images
from seesay.captioning.data.vocabulary import build_vocabulary, out_of_vocabulary_rates, write_vocabulary
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.datasets import Vocabulary
from seesay.tracking.recorder import record_stage


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"vocabularies.{cell}", Vocabulary)
    paths = Paths(root)
    first, *others = datasets = [read_caption_records(paths.captions(name)) for name in settings.datasets]
    with record_stage(root, "build_vocabulary", cell, params=settings) as log:
        for captions in datasets:
            log.dataset(captions.name, digest=captions.digest, context="training", source=captions.source)
        vocabulary = build_vocabulary(*datasets, min_count=settings.min_count)
        write_vocabulary(paths.vocabulary(cell), vocabulary)
        log.summary({"num_tokens": len(vocabulary), **out_of_vocabulary_rates(vocabulary, first)})
        for other in others:
            rates = out_of_vocabulary_rates(vocabulary, other)
            log.summary({f"{other.name}/{key}": rate for key, rate in rates.items()})
            log.summary({f"{other.name}/train/num_images_held_out": len(shared_images(first, other))})


if __name__ == "__main__":
    run(main)
