"""Speed and agreement of our drop-in for pycocoevalcap (tokenizer, BLEU, ROUGE-L, CIDEr-D) and of the original.

Both score the same files, in turns, in one process: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seesay.captioning import coco_eval
from seesay.captioning.data.tokenizer import clear_cache
from seesay.captioning.score_files import ImageId, read_references, read_results
from seesay.core.errors import InputError
from seesay.core.files import require_writable, write_json
from seesay.core.stage import guarded

OURS, THEIRS = "seesay", "pycocoevalcap"
STEPS = ("tokenizer", "bleu", "rouge_l", "cider_d")
TOLERANCE = 1e-9
"""The largest allowed difference of any score, for each image and the corpus."""

References = Mapping[ImageId, Sequence[str]]
Results = Mapping[ImageId, str]


@dataclass
class Turn:
    """One side's scores of one round, and the seconds of each step.

    `corpus` holds bleu1..4, rouge_l and cider_d; `images` holds the same by image, (N, 6).
    """

    seconds: dict[str, float]
    corpus: np.ndarray
    images: np.ndarray

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


def import_scorers(side: str) -> tuple[Any, Any, Any, Any]:
    """Return a side's tokenizer, BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D, which both call the same."""
    if side == OURS:
        return coco_eval.PTBTokenizer(), coco_eval.Bleu(4), coco_eval.Rouge(), coco_eval.Cider()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    return PTBTokenizer(), Bleu(4), Rouge(), Cider()


def score_with(side: str, references: References, results: Results) -> Turn:
    tokenizer, bleu_scorer, rouge_scorer, cider_scorer = import_scorers(side)
    captions = {image_id: [{"caption": text} for text in texts] for image_id, texts in references.items()}
    predicted = {image_id: [{"caption": results[image_id]}] for image_id in references}
    clear_cache()  # of words in our tokenizer, so that each turn begins like the first
    with contextlib.redirect_stdout(io.StringIO()):
        clock = _Clock()
        reference_tokens, tokens = tokenizer.tokenize(captions), tokenizer.tokenize(predicted)
        clock.lap("tokenizer")
        bleu, image_bleu = bleu_scorer.compute_score(reference_tokens, tokens, verbose=0)
        clock.lap("bleu")
        rouge, image_rouge = rouge_scorer.compute_score(reference_tokens, tokens)
        clock.lap("rouge_l")
        cider, image_cider = cider_scorer.compute_score(reference_tokens, tokens)
        clock.lap("cider_d")
    return Turn(
        clock.seconds,
        np.array([*bleu, rouge, cider]),
        np.column_stack([*map(np.array, image_bleu), image_rouge, image_cider]),
    )


def differences(ours: Turn, theirs: Turn) -> dict[str, float]:
    """Return the largest difference of any metric, over the images and for the corpus."""
    return {
        "images": float(np.abs(ours.images - theirs.images).max()),
        "corpus": float(np.abs(ours.corpus - theirs.corpus).max()),
    }


def compare(references: References, results: Results, *, rounds: int, with_theirs: bool) -> dict[str, Any]:
    """Measure the median seconds by side and step; the ratio is the median of the rounds' ratios."""
    turns: dict[str, list[Turn]] = {name: [] for name in ([OURS, THEIRS] if with_theirs else [OURS])}
    for name in turns:
        import_scorers(name)  # this time is not measured
    for _ in range(rounds):
        for name, side in turns.items():
            side.append(score_with(name, references, results))
    report: dict[str, Any] = {
        "num_images": len(references),
        "num_captions": len(references) + sum(map(len, references.values())),
        "seconds": {
            name: {
                "total": statistics.median(turn.total for turn in side),
                **{step: statistics.median(turn.seconds[step] for turn in side) for step in STEPS},
            }
            for name, side in turns.items()
        },
        "ratio": None,
    }
    if with_theirs:
        pairs = list(zip(turns[OURS], turns[THEIRS], strict=True))
        ratios = [theirs.total / ours.total for ours, theirs in pairs]
        report |= {"ratio": statistics.median(ratios), "ratios": ratios, "differences": differences(*pairs[0])}
    return report


def describe(report: Mapping[str, Any]) -> str:
    lines = [f"{report['num_images']} images, {report['num_captions']} captions; median seconds"]
    lines.append(f"  {'':14}" + "".join(f"{step:>11}" for step in ("total", *STEPS)))
    for name, seconds in report["seconds"].items():
        lines.append(f"  {name:14}" + "".join(f"{seconds[step]:11.3f}" for step in ("total", *STEPS)))
    if report["ratio"] is None:
        lines.append(f"  {THEIRS} needs its package and Java: `pip install pycocoevalcap`, and a java on PATH")
        return "\n".join(lines)
    rounds = ", ".join(f"{ratio:.1f}" for ratio in report["ratios"])
    lines.append(f"  ratio: {report['ratio']:.1f} (median of the rounds: {rounds})")
    largest = report["differences"]
    lines.append(f"  largest difference: {largest['images']:.1e} for an image, {largest['corpus']:.1e} for the corpus")
    if max(largest.values()) > TOLERANCE:
        lines.append(f"  NOT EQUAL: the difference is larger than {TOLERANCE:g}")
    return "\n".join(lines)


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.out is not None:
        require_writable(root / options.out, option="--out")
    if options.rounds < 1:
        raise InputError(f"--rounds: got {options.rounds}: expected at least 1")
    references = read_references(options.references)
    results = read_results(options.predictions, references, references=options.references)
    report = compare(references, results, rounds=options.rounds, with_theirs=_have_theirs())
    print(describe(report))
    if options.out is not None:
        environment = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
        chosen = {
            "rounds": options.rounds,
            "references": options.references.name,
            "predictions": options.predictions.name,
        }
        write_json(root / options.out, {"options": chosen, "environment": environment, **report})
        print(f"written: {options.out}")


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def _have_theirs() -> bool:
    try:
        import pycocoevalcap  # noqa: F401
    except ModuleNotFoundError:
        return False
    return shutil.which("java") is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="See benchmarks/README.md.")
    parser.add_argument("references", metavar="REFS.json", type=Path, help="references in COCO's annotations format")
    parser.add_argument("predictions", metavar="RESULTS.json", type=Path, help="captions in COCO's results format")
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="turns of each side (default: 5)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the results to this JSON file")
    return parser


if __name__ == "__main__":
    guarded(main, Path())
