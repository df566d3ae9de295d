"""Run the tiny runs of one kind of proof, and rewrite each proof in which a number moved."""

from pathlib import Path

from seesay.core.stage import run
from seesay.core.errors import InputError
from seesay.proving.cases import PROOFS
from seesay.proving.running import run_proof, update

STAGES = Path(__file__).resolve().parent


def main(cell: str, root: Path = Path()) -> None:
    if cell not in PROOFS:
        raise InputError(f"prove: got {cell!r}: expected one of {', '.join(PROOFS)}")
    for name in PROOFS[cell]:
        print(update(root / "proofs" / cell / f"{name}.json", run_proof(cell, name, stages=STAGES)), flush=True)


if __name__ == "__main__":
    run(main)
