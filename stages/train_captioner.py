"""Train one captioner on cached features, on captions or by reward; or build an ensemble of trained captioners."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.batches import references_of
from seesay.captioning.data.records import read_caption_records
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.captioning.features.store import read_features
from seesay.captioning.training.experiments import build_ensemble, start_captioner
from seesay.captioning.training.fit import TrainingDataset, fit_captioner
from seesay.captioning.training.reward import SampleReward, ValidationScore
from seesay.compute import configure
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.captioning import CaptionerTraining
from seesay.params.training import Runtime
from seesay.ranks import in_processes
from seesay.sources.provenance import SourceNote
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import save_checkpoint


def main(cell: str, root: Path = Path()) -> None:
    settings = read_section(root, f"captioners.{cell}.learning", CaptionerTraining)
    seed = read_section(root, "seed", int) if settings.seed is None else settings.seed
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime))
    training_data = {}
    for name, dataset in settings.dataset_of_features.items():
        captions = read_caption_records(paths.captions(dataset))
        training_data[name] = TrainingDataset(captions, read_features(paths.features(name), captions))
    vocabulary = read_vocabulary(paths.vocabulary(settings.vocabulary))
    if not settings.is_ensemble:
        size = training_data[settings.features[0]].features.num_dimensions
        captioner = start_captioner(cell, settings, vocabulary, paths, feature_size=size, seed=seed)
    with record_stage(root, "train_captioner", cell, params=settings, seed=seed, compute=compute) as log:
        for name, (captions, features) in training_data.items():
            log.dataset(captions.name, digest=captions.digest, context="training", source=captions.source)
            digest = file_digest(paths.features(name) / "index.json")
            log.dataset(name, digest=digest, context="features", source=features.index.weights)
        for parent in settings.parents:
            digest = file_digest(paths.captioner(parent))
            log.dataset(parent, digest=digest, context="initial weights", source=SourceNote(parent, ()))
        datasets = [captions for captions, _ in training_data.values()]
        score = ValidationScore(references_of(datasets[:1], "val"), vocabulary)
        if settings.is_ensemble:
            features_of_members = [features for _, features in training_data.values()]
            best, core_seconds = (
                build_ensemble(
                    settings,
                    datasets[0],
                    features_of_members,
                    vocabulary,
                    paths,
                    score=score,
                    compute=compute,
                    log=log,
                ),
                0.0,
            )
        else:
            by_reward = settings.self_critical is not None
            best, core_seconds = fit_captioner(
                captioner,
                list(training_data.values()),
                vocabulary,
                settings,
                score=score,
                reward=SampleReward(references_of(datasets, "train"), vocabulary) if by_reward else None,
                seed=seed,
                compute=compute,
                log=log,
                resume=log.scratch,
            )
        compute.ranks.leave_to_first()
        save_checkpoint(paths.captioner(cell), best)
        log.summary(best.metrics)
        log.measurement({"core_seconds": core_seconds})  # a time: not in the metrics file
        log.model(paths.captioner(cell))


if __name__ == "__main__":
    run(in_processes(main))
