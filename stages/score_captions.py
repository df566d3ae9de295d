"""Score one captioner's captions against the references, beside floors and human captions."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.figures.captions import draw_captions
from seesay.captioning.metrics.image_scores import write_image_scores
from seesay.captioning.metrics.java import open_meteor, why_no_meteor
from seesay.captioning.predictions import read_caption_predictions
from seesay.captioning.score import score_all
from seesay.core.files import file_digest, read_json, write_text
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.captioning import CaptionerTraining
from seesay.params.results import Evaluation
from seesay.sources.provenance import SourceNote
from seesay.tracking.recorder import record_stage

STAGE = "score_captions"


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, "evaluation", Evaluation)
    learning = read_section(root, f"captioners.{cell}.learning", CaptionerTraining)
    dataset, features = learning.datasets[0], learning.features[0]
    seed = read_section(root, "seed", int)
    paths = Paths(root)
    captions = read_caption_records(paths.captions(dataset))
    predictions = read_caption_predictions(paths.caption_predictions(cell), captions)
    with record_stage(root, STAGE, cell, params=settings, seed=seed) as log:
        log.dataset(dataset, digest=captions.digest, context="evaluation", source=captions.source)
        report = paths.data_report("extract_features", features)
        weights = SourceNote.from_json(read_json(report)["source"], where=report)
        log.dataset(features, digest=file_digest(report), context="features", source=weights)
        if note := why_no_meteor():
            print(note)
        with open_meteor() as meteor:
            scores = score_all(predictions, captions, evaluation=settings, seed=seed, meteor=meteor)
        write_text(paths.table(STAGE, cell, "scores"), scores.table())
        write_image_scores(paths.image_scores(cell), scores.image_ids, scores.images)
        images = open_caption_images(captions, paths)
        draw_captions(
            paths.figures(STAGE, cell), scores, predictions, captions, images, paths, cell=cell, settings=settings
        )
        log.summary(scores.metrics())
        log.artifact(paths.table(STAGE, cell, "scores"))
        log.artifact(paths.figures(STAGE, cell))


if __name__ == "__main__":
    run(main)
