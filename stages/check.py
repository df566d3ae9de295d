"""Check params.yaml and gates.yaml before any other stage, and before DVC removes an output of one."""

from pathlib import Path

from seesay.core.stage import run
from seesay.check import check_architectures, check_workspace
from seesay.core.files import write_text
from seesay.core.paths import Paths


def main(root: Path = Path()) -> None:
    check_architectures(check_workspace(root))
    write_text(Paths(root).checked, "sound\n")  # always the same, so nothing runs again because of it


if __name__ == "__main__":
    run(main)
