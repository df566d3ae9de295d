"""Proofs of copies of the package, each with one line changed. Runs as a script.

Libraries are imported once, and each copy runs in a process forked from this one. The script reads a list of
[file, old, new, [proofs that should move], [proofs that should not]] from stdin. It writes a list of {proof: cases} to
the path it is given. Of a proof that should move, the cases after the first that moves are left out.
"""

import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAGES = ROOT / "stages"
LIBRARIES = (
    "numpy", "torch", "torch.utils.data", "torchvision", "timm", "sklearn.decomposition",
    "torchmetrics.functional.image", "torchvision.transforms.v2.functional", "pydantic", "ruamel.yaml", "PIL.Image",
    "psutil", "filelock", "tqdm", "multiprocessing.connection",
)  # fmt: skip


def change(copy: Path, file: str, old: str, new: str) -> None:
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file}: {old!r} is there {text.count(old)} times"
    path.write_text(text.replace(old, new), encoding="utf-8")


def prove(folder: Path, moving: list[str], staying: list[str]) -> dict[str, dict[str, Any]]:
    """Return the cases of the proofs by the package in `folder`. Call it in a process that has not imported seesay."""
    assert not [name for name in sys.modules if name.split(".")[0] == "seesay"]
    sys.path.insert(0, str(folder))
    running = importlib.import_module("seesay.proving.running")
    assert Path(str(running.__file__)).is_relative_to(folder), running.__file__
    found = {proof: running.run_proof(*proof.split("/"), stages=STAGES) for proof in staying}
    return found | {proof: first_moved(running, proof) for proof in moving}


def first_moved(running: Any, proof: str) -> dict[str, Any]:
    """Return the cases of `proof` up to the first that moves."""
    kind, name = proof.split("/")
    committed = json.loads((ROOT / f"proofs/{proof}.json").read_text(encoding="utf-8"))
    steps, cases = running.PROOFS[kind][name].steps, {}
    with tempfile.TemporaryDirectory() as folder, running.untracked(), Path(os.devnull).open("w") as log:
        running.prepare(Path(folder), running.PROOFS[kind][name])
        for stage, cell in steps:
            with contextlib.redirect_stderr(log):
                running.load_stage(STAGES / f"{stage}.py").main(cell, Path(folder))
            if stage == running.RECORDED[kind]:
                cases[cell] = running.numbers_of(Path(folder), stage, cell)
                if any(move.size > running.TOLERANCE for move in running.moves(committed[cell], cases[cell])):
                    break
    return cases


def main(target: Path) -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    import torch

    torch.set_num_threads(1)  # a fork does not keep the threads of a pool
    os.fsync = lambda _: None  # nothing here outlives this process
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, (file, old, new, moving, staying) in enumerate(json.load(sys.stdin)):
            folder, answer = Path(temporary, str(number)), Path(temporary, f"{number}.json")
            # Compiled files and modification times are copied too, so that only one file is compiled again.
            shutil.copytree(ROOT / "src/seesay", folder / "seesay")
            change(folder / "seesay", file, old, new)
            child = os.fork()
            if child == 0:
                try:
                    answer.write_text(json.dumps(prove(folder, moving, staying)))
                except BaseException:
                    answer.write_text(json.dumps({"error": traceback.format_exc()}))
                os._exit(0)
            os.waitpid(child, 0)
            found.append(json.loads(answer.read_text()))
            shutil.rmtree(folder)
    target.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
