"""The figures of the page: all where they fit, those of the best classifiers first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.params.project import Params
from seesay.plotting.embed import (
    Example,
    ExperimentFigures,
    Panel,
    Picture,
    SizeBudget,
    data_uri,
    read_picture,
    read_pictures,
)
from seesay.plotting.table import CHANCE, Row
from seesay.report.results import Results

_CURVES = ("curves.svg", "Training and validation curves, the best epoch marked")
_PREDICTIONS = (
    ("confusion.svg", "Confusion matrix on test, in percent of each true class"),
    ("roc.svg", "ROC curves: the mean over classes, the two best and the two worst"),
    ("reliability.svg", "Reliability diagram: accuracy over confidence, before and after temperature scaling"),
    ("predictions.webp", "Test images with predicted and true classes"),
    ("mistakes.webp", "The most confident mistakes on test"),
)
_EXPLANATIONS = (
    ("gradcam.webp", "Evidence in test images for the predicted and for the true class"),
    ("filters.webp", "Filters of the first layer"),
    ("activations.webp", "Activations of a test image from layer to layer"),
)


@dataclass(frozen=True)
class Figures:
    """All figures of the page: comparisons of classifiers, each experiment's by section, the best first, and samples of
    the data by dataset."""

    comparison: list[Picture | Panel]
    experiments: dict[str, list[ExperimentFigures]]
    samples: dict[str, Picture | Panel]


def collect_figures(
    params: Params, paths: Paths, results: Results, *, costs: Sequence[tuple[str, str]], max_bytes: int
) -> Figures:
    """Collect the figures in the workspace, up to `max_bytes` in all; `costs` are those of `draw_costs`.

    Comparisons, curves, captioners' scores and the examples of each dataset's best captioner are always included. The
    remaining bytes go, in this order, to the predictions of each dataset's best classifier, to samples of the data, to
    the explanations of the best classifiers, to the released classifiers, and to all others from the best down. "Best"
    is by val. Figures of autoencoders and the examples of all captioners are on pages of their own.
    """
    folder = paths.figures("compare_classifiers")
    datasets = list(dict.fromkeys(classifier.dataset for classifier in params.classifiers.values()))
    comparison = read_pictures(paths.cost_figures, costs)
    comparison += read_pictures(folder, [("overfitting.svg", "Accuracy on train and val per epoch, side by side")])
    best, rest = _by_importance(params, results.classification)
    by_cell = {cell: _classifier(cell, paths) for cell in (*best, *rest)}
    experiments = {
        "classification": list(by_cell.values()),
        "autoencoders": list(_autoencoders(params, paths)),
        "captions": list(_captioners(params, paths, results.captions)),
    }
    used = sum(picture.size for picture in comparison)
    for one in itertools.chain(*experiments.values()):
        used += sum(picture.size for picture in one.pictures) + sum(len(case.picture or "") for case in one.examples)
    budget = SizeBudget(max_bytes - used)
    for cell in best:
        budget.add(by_cell[cell], paths.figures("evaluate_classifier", cell), _PREDICTIONS)
    samples = {}
    for name in datasets:
        picture = read_picture(folder / f"samples_{name}.webp", f"Training images of each class of {name}")
        if picture is not None and budget.take([picture]):
            samples[name] = picture
    for cell in best:
        for explanation in _EXPLANATIONS:
            budget.add(by_cell[cell], paths.figures("explain_classifier", cell), [explanation])
    for cell in rest:  # explanations mean little without the predictions
        for stage, names in (("evaluate_classifier", _PREDICTIONS), ("explain_classifier", _EXPLANATIONS)):
            budget.add(by_cell[cell], paths.figures(stage, cell), names)
    return Figures(comparison, experiments, samples)


def _by_importance(params: Params, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return each dataset's best classifier by val top-1, and the others: released ones first, then the best first."""
    val_top1 = {
        row["cell"]: row.get("val/top1") or 0.0 for row in rows if row["cell"] != CHANCE and "source" not in row
    }
    ranked = sorted(params.classifiers, key=lambda cell: -val_top1.get(cell, 0.0))
    best: dict[str, str] = {}
    for cell in ranked:
        best.setdefault(params.classifiers[cell].dataset, cell)
    rest = [cell for cell in ranked if cell not in best.values()]
    return list(best.values()), sorted(rest, key=lambda cell: cell not in params.release.classifiers)


def _classifier(cell: str, paths: Paths) -> ExperimentFigures:
    return ExperimentFigures(cell, "classifier", read_pictures(paths.figures("evaluate_classifier", cell), [_CURVES]))


def _autoencoders(params: Params, paths: Paths) -> Iterable[ExperimentFigures]:
    for cell in params.autoencoders:
        folder = paths.figures("evaluate_autoencoder", cell)
        yield ExperimentFigures(cell, "autoencoder", read_pictures(folder, [_CURVES]))


def _captioners(params: Params, paths: Paths, rows: Sequence[Row]) -> Iterable[ExperimentFigures]:
    scores = ("scores.svg", "CIDEr-D of the model, beside baselines, shuffled images and human captions")
    best = best_captioners(rows)
    for cell in sorted(params.captioners, key=lambda cell: cell not in best):
        figures = ExperimentFigures(
            cell, "captioner", read_pictures(paths.figures("score_captions", cell), [_CURVES, scores])
        )
        if cell in best:
            figures.rule, figures.examples = read_examples(paths, cell)
        yield figures


def read_examples(paths: Paths, cell: str) -> tuple[str, tuple[Example, ...]]:
    """Read the rule and the cases of a captioner's panel; both empty where the workspace has none."""
    folder = paths.figures("score_captions", cell)
    panel = folder / "captions.json"
    if not panel.is_file():
        return "", ()
    content: Any = read_stage_json(panel, "score_captions", cell)
    return str(content.get("rule", "")), tuple(_example(case, folder) for case in content.get("cases", []))


def best_captioners(rows: Sequence[Row]) -> list[str]:
    """Return each dataset's captioner with the highest CIDEr-D on val; `rows` are the results on captions."""
    best: dict[str, str] = {}
    for row in sorted((row for row in rows if row["set"] == "val"), key=lambda row: -(row.get("cider_d") or 0.0)):
        best.setdefault(row["dataset"], row["cell"])
    return list(best.values())


def _example(case: Mapping[str, Any], folder: Path) -> Example:
    return Example(
        kind=str(case["kind"]),
        picture=data_uri(folder / Path(str(case["image"])).name),
        prediction=str(case["prediction"]),
        references=tuple(map(str, case["references"])),
        cider_d=float(case["cider_d"]),
    )
