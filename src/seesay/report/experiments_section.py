"""Which figures does the page show? All where there is room, those of the best classifiers first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.params.project import Params
from seesay.plotting.embed import CellFigures, Example, Picture, Room, embedded, pictures_of, read_picture
from seesay.plotting.table import CHANCE, Row
from seesay.report.results import Results

_CURVES = ("curves.svg", "Training and validation curves, the best epoch marked")
_ANSWERS = (
    ("confusion.svg", "Confusion matrix on test, in percent of each true class"),
    ("roc.svg", "ROC curves: the mean of the classes, the two best and the two worst"),
    ("reliability.svg", "Accuracy over confidence, before and after temperature scaling"),
    ("predictions.webp", "Test images with predicted and true classes"),
    ("mistakes.webp", "The mistakes on test it is surest of"),
)
_REASONS = (
    ("gradcam.webp", "What in test images speaks for the class predicted and for the true one"),
    ("filters.webp", "Filters of the first layer"),
    ("activations.webp", "What becomes of a test image on its way through the network"),
)


@dataclass(frozen=True)
class Figures:
    """All figures of the page: of the comparisons, of each experiment, and samples by dataset."""

    comparison: list[Picture]
    captioners: list[Picture]
    cells: list[CellFigures]
    samples: dict[str, Picture]


def collect_figures(params: Params, paths: Paths, results: Results, *, max_bytes: int) -> Figures:
    """The figures that the workspace has, up to `max_bytes` of them.

    Comparisons, curves, the figures of captioners and examples of each dataset's best captioner are always there. What
    room they leave goes to what each dataset's best classifier gets right and wrong, then to samples of the data and to
    why the best ones answer so, then to the released classifiers, then to the others from the best down. Best by val.
    What autoencoders draw and all captioners' examples are on pages of their own.
    """
    folder = paths.figures("compare_classifiers")
    datasets = list(dict.fromkeys(classifier.dataset for classifier in params.classifiers.values()))
    comparison = pictures_of(folder, [pair for name in datasets for pair in _of_dataset(name)])
    comparison += pictures_of(folder, [("overfitting.svg", "Accuracy on train and val per epoch, side by side")])
    classifiers = [_classifier(cell, paths) for cell in params.classifiers]
    cells = [*classifiers, *_autoencoders(params, paths), *_captioners(params, paths, results.captions)]
    of_captions = dict.fromkeys(captioner.learning.datasets[0] for captioner in params.captioners.values())
    rankings = [(f"ranking_{name}.svg", f"Captioners of {name} by CIDEr-D, beside floors") for name in of_captions]
    captioners = pictures_of(paths.figures("compare_captioners"), rankings)
    used = sum(len(picture.source) for picture in (*comparison, *captioners))
    used += sum(len(picture.source) for cell in cells for picture in cell.pictures)
    used += sum(len(example.picture or "") for cell in cells for example in cell.examples)
    room = Room(max_bytes - used)
    best, rest = _by_importance(params, results.classification)
    by_cell = {one.cell: one for one in classifiers}
    for cell in best:
        by_cell[cell].is_open = True
        room.add(by_cell[cell], paths.figures("evaluate_classifier", cell), _ANSWERS, paths)
    samples = {}
    for name in datasets:
        picture = read_picture(folder / f"samples_{name}.webp", f"Training images of each class of {name}")
        if picture is not None and room.take([picture]):
            samples[name] = picture
    for cell in best:
        for reason in _REASONS:
            room.add(by_cell[cell], paths.figures("explain_classifier", cell), [reason], paths)
    for cell in rest:  # why it answers so means little without what it answers
        for stage, names in (("evaluate_classifier", _ANSWERS), ("explain_classifier", _REASONS)):
            room.add(by_cell[cell], paths.figures(stage, cell), names, paths)
    return Figures(comparison, captioners, cells, samples)


def _by_importance(params: Params, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The best classifier of each dataset by val top-1, and the others: the released ones, then from the best down."""
    of_cell = {row["cell"]: row.get("val/top1") or 0.0 for row in rows if row["cell"] != CHANCE and "source" not in row}
    ranked = sorted(params.classifiers, key=lambda cell: -of_cell.get(cell, 0.0))
    best: dict[str, str] = {}
    for cell in ranked:
        best.setdefault(params.classifiers[cell].dataset, cell)
    rest = [cell for cell in ranked if cell not in best.values()]
    return list(best.values()), sorted(rest, key=lambda cell: cell not in params.release.classifiers)


def _of_dataset(name: str) -> list[tuple[str, str]]:
    return [
        (f"ranking_{name}.svg", f"Classifiers of {name} by accuracy, with intervals and published results"),
        (f"accuracy_cost_{name}.svg", f"Accuracy against cost on {name}"),
    ]


def _classifier(cell: str, paths: Paths) -> CellFigures:
    return CellFigures(cell, "classifier", pictures_of(paths.figures("evaluate_classifier", cell), [_CURVES]))


def _autoencoders(params: Params, paths: Paths) -> Iterable[CellFigures]:
    for cell in params.autoencoders:
        folder = paths.figures("evaluate_autoencoder", cell)
        yield CellFigures(cell, "autoencoder", pictures_of(folder, [_CURVES]))


def _captioners(params: Params, paths: Paths, rows: Sequence[Row]) -> Iterable[CellFigures]:
    scores = ("scores.svg", "CIDEr-D of the model beside floors, shuffled images and people")
    shown = best_captioners(rows)
    for cell in params.captioners:
        folder = paths.figures("score_captions", cell)
        figures = CellFigures(cell, "captioner", pictures_of(folder, [_CURVES, scores]))
        panel = folder / "captions.json"
        if cell in shown and panel.is_file():
            content: Any = read_stage_json(panel, "score_captions", cell)
            figures.rule = str(content.get("rule", ""))
            figures.examples = tuple(_example(case, folder) for case in content.get("cases", []))
        yield figures


def best_captioners(rows: Sequence[Row]) -> list[str]:
    """Of each dataset the captioner with the highest CIDEr-D on val; `rows` are the results on captions."""
    best: dict[str, str] = {}
    for row in sorted((row for row in rows if row["set"] == "val"), key=lambda row: -(row.get("cider_d") or 0.0)):
        best.setdefault(row["dataset"], row["cell"])
    return list(best.values())


def _example(case: Mapping[str, Any], folder: Path) -> Example:
    return Example(
        kind=str(case["kind"]),
        picture=embedded(folder / Path(str(case["image"])).name),
        prediction=str(case["prediction"]),
        references=tuple(map(str, case["references"])),
        cider_d=float(case["cider_d"]),
    )
