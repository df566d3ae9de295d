"""Make the empty folders that cells depend on which start from no weights and build on no other cell."""

from pathlib import Path

from seesay.files import atomic_directory
from seesay.params.experiments import NONE
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage


def main(root: Path = Path()) -> None:
    paths = Paths(root)
    with record_stage(root, "none", params={}):
        data = (paths.weights, paths.captions, paths.features)
        models = (paths.classifiers_of, paths.captioner_of, paths.finetuned_encoder)
        for folder in (path_of(NONE) for path_of in data + models):
            with atomic_directory(folder):
                pass


if __name__ == "__main__":
    run(main)
