"""Release the models named in params.yaml, provided that the gate has passed.

The stage writes their bundles and a list of them, and adds versions to MLflow's registry.
"""

from pathlib import Path

from seesay.core.stage import run
from seesay.core.files import atomic_directory, read_json, write_json
from seesay.core.paths import Paths
from seesay.core.settings import CellName, read_section
from seesay.params.autoencoding import Autoencoder
from seesay.params.captioning import Captioner
from seesay.params.classification import Classifier
from seesay.params.results import Release
from seesay.serving.bundle import model_card, write_bundle
from seesay.serving.gather import gather_bundle
from seesay.tracking.recorder import record_stage
from seesay.tracking.registry import Cells, describe_release, register_models


def main(root: Path = Path()) -> None:
    settings = read_section(root, "release", Release)
    cells: Cells = {
        "classifiers": read_section(root, "classifiers", dict[CellName, Classifier]),
        "autoencoders": read_section(root, "autoencoders", dict[CellName, Autoencoder]),
        "captioners": read_section(root, "captioners", dict[CellName, Captioner]),
    }
    paths = Paths(root)
    with record_stage(root, "register", params=settings) as log:
        entries = describe_release(settings, paths, gate=read_json(paths.gate), cells=cells)
        with atomic_directory(paths.released) as released:
            for entry in entries:
                bundle = gather_bundle(root, f"{entry['kind']}s", entry["cell"])
                write_bundle(released / entry["name"], bundle, model_card(bundle.config))
        write_json(paths.release, entries)
        log.artifact(paths.release)
    register_models(root, entries)  # `seesay sync` backfills versions missed while MLflow was down


if __name__ == "__main__":
    run(main)
