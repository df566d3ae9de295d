"""Compute and draw one captioner's attention at each word of its test captions."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.captioning.explain import explain_captions, write_attention
from seesay.captioning.features.store import read_features
from seesay.captioning.figures.attention import draw_attention_cases
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.predictions import read_caption_predictions
from seesay.compute import configure
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.results import Evaluation
from seesay.params.training import Runtime
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint

STAGE = "explain_captioner"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.captioner(cell), kind="captioner")
    captions = read_caption_records(paths.captions(checkpoint.dataset))
    vocabulary = read_vocabulary(paths.vocabulary(checkpoint.settings["vocabulary"]))
    checkpoint.require_vocabulary(vocabulary.digest)
    captioner = restore_captioner(checkpoint)
    names = checkpoint.settings["features"][: 1 + max(position for position, _ in captioner.inputs())]
    features = {name: read_features(paths.features(name), captions) for name in names}
    test = read_caption_predictions(paths.caption_predictions(cell), captions)["test"]
    with record_stage(root, STAGE, cell, params=settings, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=captions.digest, context="explanation", source=captions.source)
        for name, of_name in features.items():
            digest = file_digest(paths.features(name) / "index.json")
            log.dataset(name, digest=digest, context="features", source=of_name.index.weights)
        attention = explain_captions(
            captioner,
            list(features.values()),
            captions,
            vocabulary,
            test,
            batch_size=settings.batch_size,
            compute=compute,
        )
        write_attention(paths.attention(cell), attention)
        images = open_caption_images(captions, paths)
        draw_attention_cases(paths.figures(STAGE, cell), attention, captions, images, settings=settings)
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(main)
