"""How do the classifiers compare? All figures that show several of them, and samples of what they learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seesay.errors import InputError
from seesay.files import atomic_directory
from seesay.params.experiments import Classifier
from seesay.params.results import Comparison
from seesay.paths import Paths
from seesay.reporting.cost_figures import draw_costs
from seesay.reporting.curves import read_history
from seesay.reporting.overfitting_figures import draw_overfitting
from seesay.reporting.ranking_figures import draw_ranking
from seesay.reporting.sample_panels import draw_samples

if TYPE_CHECKING:
    from seesay.data.packed_images import PackedImages

MIN_FOR_COSTS = 3


def draw_comparison(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    datasets: Mapping[str, PackedImages],
    classifiers: Mapping[str, Classifier],
    paths: Paths,
    *,
    settings: Comparison,
) -> None:
    """Fills `folder`, all or nothing: for each dataset `ranking_<dataset>.svg`, `samples_<dataset>.webp` and, where
    it has three classifiers or more, `accuracy_cost_<dataset>.svg`; `overfitting.svg` where the study names cells.

    Raises `InputError` where it names a cell that is none of `classifiers`.
    """
    for cell in settings.overfitting_study:
        if cell not in classifiers:
            raise InputError(f"comparison.overfitting_study: got {cell!r}: expected one of {', '.join(classifiers)}")
    histories = {
        cell: read_history(paths.table("train_classifier", cell, "history")) for cell in settings.overfitting_study
    }
    with atomic_directory(folder) as new:
        for name, images in datasets.items():
            draw_ranking(new / f"ranking_{name}.svg", rows, dataset=name)
            if sum(one.dataset == name for one in classifiers.values()) >= MIN_FOR_COSTS:
                draw_costs(new / f"accuracy_cost_{name}.svg", rows, dataset=name)
            samples = new / f"samples_{name}.webp"
            draw_samples(samples, images, per_class=settings.samples_per_class, seed=settings.samples_seed)
        if histories:
            draw_overfitting(new / "overfitting.svg", histories, classifiers)
