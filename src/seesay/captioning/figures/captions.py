"""Figures of one captioner: learning curves, scores beside the floors, and example captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from seesay.core.files import atomic_directory, write_json
from seesay.core.paths import Paths
from seesay.params.results import Evaluation
from seesay.plotting.curves import draw_curves, read_history
from seesay.plotting.panels import draw_caption_panel, letterbox, save_webp
from seesay.plotting.style import BLUE, GREEN, GREY, SKY, VERMILION, new_figure
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.captioning.data.records import CaptionRecords
    from seesay.captioning.predictions import Prediction

KINDS = ("best", "random", "worst")
"""Reasons for which an example is chosen, in the order of the panel."""

# (set, label, colour), from the top of the chart down
_BARS = (
    ("human", "human: one reference\nagainst the others", GREEN),
    ("val", "model, val images", SKY),
    ("test", "model, test images", BLUE),
    ("test_shuffled", "model, test images shuffled", VERMILION),
    ("floor_nearest", "floor: caption of the\nnearest training image", GREY),
    ("floor_constant", "floor: best constant caption", GREY),
    ("floor_random", "floor: random training caption", GREY),
)
_THUMBNAIL = 224


class Scores(Protocol):
    """Metrics by set of captions (`sets`), and CIDEr-D of each test image's caption by image id (`per_image`)."""

    @property
    def sets(self) -> Mapping[str, Mapping[str, float]]: ...
    @property
    def per_image(self) -> Mapping[int, float]: ...


class Images(Protocol):
    """RGB pictures by row of the dataset's records."""

    def __getitem__(self, row: int) -> Image.Image: ...


@dataclass(frozen=True)
class Case:
    """One example of the panel. `kind` is the reason for its choice; `image` is its thumbnail's file name."""

    kind: str
    image_id: int
    image: str
    prediction: str
    references: tuple[str, ...]
    cider_d: float


def draw_captions(
    folder: Path,
    scores: Scores,
    predictions: Mapping[str, Sequence[Prediction]],
    captions: CaptionRecords,
    images: Images,
    paths: Paths,
    *,
    cell: str,
    settings: Evaluation,
) -> None:
    """Fill `folder` with `curves.svg`, `scores.svg`, `captions.webp`; for the page, `captions.json` and thumbnails."""
    history = read_history(paths, "train_captioner", cell)
    name = f"{cell} on {captions.name}"
    predicted = {prediction["image_id"]: prediction["caption"] for prediction in predictions["test"]}
    with atomic_directory(folder) as new:
        draw_curves(new / "curves.svg", history, title=name)
        draw_scores(new / "scores.svg", scores.sets, title=name)
        chosen = choose_cases(scores.per_image, settings.panel_images, seed=settings.panel_seed)
        row_of = {captions.records[row].image_id: row for row in captions.rows("test")}
        cases: list[Case] = []
        pictures: list[Image.Image] = []
        for number, (kind, image_id) in enumerate(chosen, start=1):
            row = row_of[image_id]
            references = captions.records[row].captions
            score = scores.per_image[image_id]
            case = Case(kind, image_id, f"case_{number:02}.webp", predicted[image_id], references, round(score, 6))
            pictures.append(letterbox(images[row], _THUMBNAIL))
            save_webp(new / case.image, pictures[-1])
            cases.append(case)
        rule = describe_rule(chosen, seed=settings.panel_seed)
        write_json(new / "captions.json", {"rule": rule, "cases": [asdict(case) for case in cases]})
        texts = [
            (f"{case.kind}: CIDEr-D {case.cider_d:.2f}", case.prediction or "(no word)", case.references)
            for case in cases
        ]
        draw_caption_panel(new / "captions.webp", pictures, texts, title=f"{name}. {rule}")


def choose_cases(per_image: Mapping[int, float], count: int, *, seed: int) -> list[tuple[str, int]]:
    """Return (kind, image id) of up to `count` distinct images: a third each of highest, random and lowest CIDEr-D.

    Equal scores are ordered by image id. Where the count is not a multiple of three, the random ones get the rest.
    """
    by_score = sorted(per_image, key=lambda image_id: (-per_image[image_id], image_id))
    count = min(count, len(by_score))
    third = count // 3
    best, worst = by_score[:third], by_score[len(by_score) - third :]
    between = sorted(by_score[third : len(by_score) - third])
    positions = numpy_generator(seed, "panel").permutation(len(between))[: count - 2 * third]
    chosen = {"best": best, "random": [between[position] for position in np.sort(positions)], "worst": worst}
    return [(kind, image_id) for kind in KINDS for image_id in chosen[kind]]


def describe_rule(chosen: Sequence[tuple[str, int]], *, seed: int) -> str:
    """Describe in a sentence how the cases were chosen."""
    counts = {kind: sum(other == kind for other, _ in chosen) for kind in KINDS}
    return (
        f"Test images: the {counts['best']} with the highest CIDEr-D, {counts['random']} drawn at random from the "
        f"others (seed {seed}), the {counts['worst']} with the lowest."
    )


def draw_scores(path: Path, sets: Mapping[str, Mapping[str, float]], *, title: str) -> None:
    """Draw CIDEr-D of the model beside the floors, shuffled images and human captions, as bars with their values."""
    bars = [(label, sets[name]["cider_d"], colour) for name, label, colour in _BARS if name in sets]
    with new_figure(path, width=7.2, height=0.42 * len(bars) + 1.0) as figure:
        axes = figure.subplots()
        labels, values, colours = zip(*bars, strict=True)
        drawn_bars = axes.barh(labels, values, color=colours, height=0.65)
        axes.bar_label(drawn_bars, fmt="%.3f", padding=4)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.15 * max(*values, 0.05))
        axes.set_xlabel("CIDEr-D (1.0 is often printed as 100)")
        axes.set_title(f"{title}: CIDEr-D beside its floors")
