"""Train one captioner on cached features."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.caption_records import read_caption_records
from seesay.data.features import read_features
from seesay.data.vocabulary import read_vocabulary
from seesay.files import file_digest
from seesay.models.captioners import build_captioner
from seesay.models.checkpoint import save_checkpoint
from seesay.params.captioning import CaptionerTraining
from seesay.params.reading import read_section
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage
from seesay.training.captioning import fit_captioner


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"captioners.{cell}.learning", CaptionerTraining)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    captions = read_caption_records(paths.captions(settings.dataset))
    vocabulary = read_vocabulary(paths.vocabulary(settings.vocabulary))
    features = read_features(paths.features(settings.features), captions)
    key = f"captioners.{cell}.learning.architecture"
    captioner = build_captioner(
        settings.architecture,
        vocabulary_size=len(vocabulary),
        feature_size=features.num_dimensions,
        seed=seed,
        key=key,
    )
    with record_stage(root, "train_captioner", cell, params=settings, seed=seed, compute=compute) as log:
        log.dataset(settings.dataset, digest=captions.digest, context="training", source=captions.source)
        features_digest = file_digest(paths.features(settings.features) / "index.json")
        log.dataset(settings.features, digest=features_digest, context="features", source=features.index.weights)
        best = fit_captioner(
            captioner, captions, vocabulary, features, settings, seed=seed, compute=compute, log=log, resume=log.scratch
        )
        save_checkpoint(paths.captioner(cell), best)
        log.summary(best.metrics)
        log.model(paths.captioner(cell))


if __name__ == "__main__":
    run(main)
