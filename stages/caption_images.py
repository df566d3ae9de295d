"""Caption val and test images with one captioner, test images with shuffled features, and by nearest neighbours."""

from pathlib import Path

from seesay.core.stage import run
from seesay.captioning.data.records import read_caption_records
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.captioning.features.store import read_features
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.predict import caption_by_neighbours, caption_splits
from seesay.captioning.predictions import write_caption_predictions
from seesay.compute import configure
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.params.captioning import Decoding
from seesay.params.training import Runtime
from seesay.ranks import in_processes
from seesay.tracking.recorder import record_stage
from seesay.training.checkpoint import load_checkpoint


def main(cell: str, root: Path = Path()) -> None:
    decoding = read_section(root, f"captioners.{cell}.decoding", Decoding)
    seed = read_section(root, "seed", int)
    paths, compute = Paths(root), configure(read_section(root, "runtime", Runtime).in_float32())
    checkpoint = load_checkpoint(paths.captioner(cell), kind="captioner")
    captions = read_caption_records(paths.captions(checkpoint.dataset))
    vocabulary = read_vocabulary(paths.vocabulary(checkpoint.settings["vocabulary"]))
    captioner = restore_captioner(checkpoint)
    names = checkpoint.settings["features"][: 1 + max(position for position, _ in captioner.inputs())]
    features = {name: read_features(paths.features(name), captions) for name in names}
    checkpoint.require_vocabulary(vocabulary.digest)
    with record_stage(root, "caption_images", cell, params=decoding, seed=seed, compute=compute) as log:
        log.dataset(checkpoint.dataset, digest=captions.digest, context="evaluation", source=captions.source)
        for name, of_name in features.items():
            digest = file_digest(paths.features(name) / "index.json")
            log.dataset(name, digest=digest, context="features", source=of_name.index.weights)
        captioned = caption_splits(
            captioner, captions, vocabulary, list(features.values()), decoding, seed=seed, compute=compute
        )
        compute.ranks.leave_to_first()
        log.measurement({"images_per_second": captioned.images_per_second})  # a time: not in the metrics file
        nearest, num_neighbours = caption_by_neighbours(captions, features[names[0]])
        predictions = {**captioned.predictions, "nearest_neighbour": nearest}
        write_caption_predictions(paths.caption_predictions(cell), predictions)
        sizes = {f"{name}/num_captions": len(results) for name, results in predictions.items()}
        log.summary({**sizes, "nearest_neighbour/k": num_neighbours})
        log.artifact(paths.caption_predictions(cell))


if __name__ == "__main__":
    run(in_processes(main))
