"""Make the empty folders that stages depend on which start from nothing, build on nothing or compare nothing."""

from pathlib import Path

from seesay.files import atomic_directory
from seesay.params.experiments import NONE
from seesay.paths import Paths
from seesay.stage import run
from seesay.tracking.recorder import record_stage


def main(root: Path = Path()) -> None:
    paths = Paths(root)
    with record_stage(root, "none", params={}):
        for folder in paths.empty_folders(NONE):
            with atomic_directory(folder):
                pass


if __name__ == "__main__":
    run(main)
