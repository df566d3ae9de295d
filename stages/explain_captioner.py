"""Show what one captioner looks at while it says each word."""

from pathlib import Path

from seesay.compute import configure
from seesay.data.caption_records import open_caption_images, read_caption_records
from seesay.data.features import read_features
from seesay.data.vocabulary import read_vocabulary
from seesay.evaluation.caption_predictions import read_caption_predictions
from seesay.explain.caption_attention import explain_captions
from seesay.explain.kept_attention import write_attention
from seesay.files import file_digest
from seesay.models.captioners import restore_captioner
from seesay.models.checkpoint import load_checkpoint
from seesay.params.reading import read_section
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.paths import Paths
from seesay.reporting.attention_figures import draw_attention_cases
from seesay.stage import run
from seesay.tracking.recorder import record_stage

STAGE = "explain_captioner"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.captioner(cell), kind="captioner")
    captions = read_caption_records(paths.captions(checkpoint.dataset))
    vocabulary = read_vocabulary(paths.vocabulary(checkpoint.settings["vocabulary"]))
    checkpoint.require_vocabulary(vocabulary.digest)
    features_path = paths.features(checkpoint.settings["features"][0])
    features = read_features(features_path, captions)
    captioner = restore_captioner(checkpoint)
    test = read_caption_predictions(paths.caption_predictions(cell), captions)["test"]
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=captions.digest, context="explanation", source=captions.source)
        features_digest = file_digest(features_path / "index.json")
        log.dataset(features_path.name, digest=features_digest, context="features", source=features.index.weights)
        attention = explain_captions(
            captioner, features, captions, vocabulary, test, batch_size=settings.batch_size, compute=compute
        )
        write_attention(paths.attention(cell), attention)
        images = open_caption_images(captions, paths)
        draw_attention_cases(paths.figures(STAGE, cell), attention, captions, images, settings=settings)
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(main)
