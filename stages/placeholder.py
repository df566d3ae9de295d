"""Create empty folders for stages with dependencies that may be missing, because DVC has no optional dependencies."""

from pathlib import Path

from seesay.core.stage import run
from seesay.core.files import atomic_directory
from seesay.core.paths import Paths
from seesay.tracking.recorder import record_stage


def main(root: Path = Path()) -> None:
    with record_stage(root, "placeholder", params={}):
        for folder in Paths(root).empty_folders():
            with atomic_directory(folder):
                pass


if __name__ == "__main__":
    run(main)
