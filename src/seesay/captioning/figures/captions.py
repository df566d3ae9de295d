"""Captioned pictures, and where captioners attended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image, ImageDraw

from seesay.captioning.explain import NO_ATTENTION, entropy_bits, grid_side, upsample
from seesay.core.files import atomic_directory, write_json
from seesay.core.paths import Paths
from seesay.params.results import Evaluation
from seesay.plotting.curves import draw_curves, read_history
from seesay.plotting.panels import draw_caption_panel, font, from_array, letterbox, save_webp
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


if TYPE_CHECKING:
    from seesay.captioning.data.records import CaptionRecords
    from seesay.captioning.explain import CaptionAttention
    from seesay.captioning.figures.captions import Images
    from seesay.params.results import Evaluation

TILE = 112
"""Pixels per side: a multiple of the usual grid sides, 7 and 14."""

_GAP, _COLUMNS, _TEXT_SIZE, _LINE = 6, 7, 14, 20
_DARK = 0.42  # brightness that is left where there is no attention
_BACKGROUND, _WORD, _LABEL = "#16181b", "#e6e8ea", "#a4abb3"  # dark, so that it suits a light page and a dark one
_QUALITY = 44  # of WebP: a page has many strips


def draw_attention_cases(
    folder: Path, attention: CaptionAttention, captions: CaptionRecords, images: Images, *, settings: Evaluation
) -> None:
    """Fill `folder` with `attention.json` and strips of test images chosen at random with the panel's seed.

    A captioner on pooled features has no strips; the file has a note that says why.
    """
    note = "" if attention.words else NO_ATTENTION
    not_empty = [row for row in captions.rows("test") if attention.words.get(captions.records[row].image_id)]
    chosen = numpy_generator(settings.panel_seed, "attention").permutation(len(not_empty))[: settings.panel_images]
    cases = []
    with atomic_directory(folder) as new:
        for number, row in enumerate((not_empty[position] for position in np.sort(chosen)), start=1):
            image_id = captions.records[row].image_id
            words, weights = attention.words[image_id], attention.weights[image_id]
            strip = f"case_{number:02}.webp"
            draw_attention(new / strip, images[row], words, weights, crop_share=attention.crop_share)
            bits = [round(float(value), 3) for value in entropy_bits(weights)]
            cases.append({"image_id": image_id, "attention": strip, "words": list(words), "entropy_bits": bits})
        write_json(new / "attention.json", {"looks_at": attention.looks_at, "note": note, "cases": cases})


def draw_attention(
    path: Path, picture: Image.Image, words: Sequence[str], weights: np.ndarray, *, crop_share: float
) -> None:
    """Write a WebP of the encoder's crop of `picture` and, for each word, that crop with its attention highlighted.

    `weights` (T, L) sum to one per word. All words share one scale: full brightness is the caption's largest weight, so
    that uniform attention is dim everywhere. Brightness is the square root of the weight, because the eye compares
    ratios. `crop_share`: see `encoder_crop`.
    """
    assert len(words) == len(weights), (len(words), len(weights))
    side = TILE - TILE % grid_side(weights.shape[1])
    square = encoder_crop(picture, crop_share, side)
    tiles = [(square, "the image")]
    if len(words):
        maps = upsample(weights, side)
        tiles += [
            (highlight(square, np.sqrt(word_map / maps.max())), word)
            for word_map, word in zip(maps, words, strict=True)
        ]
    columns = min(_COLUMNS, len(tiles))
    num_rows = -(-len(tiles) // columns)
    size = (columns * (side + _GAP) + _GAP, num_rows * (side + _LINE + _GAP) + _GAP)
    canvas = Image.new("RGB", size, _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for number, (tile, word) in enumerate(tiles):
        x, y = _GAP + number % columns * (side + _GAP), _GAP + number // columns * (side + _LINE + _GAP)
        canvas.paste(tile, (x, y))
        colour = _WORD if number else _LABEL
        pen.text((x + side // 2, y + side + 2), _truncated(word, side), fill=colour, font=font(_TEXT_SIZE), anchor="ma")
    canvas.save(path, format="WEBP", quality=_QUALITY, method=6)


def encoder_crop(picture: Image.Image, crop_share: float, side: int) -> Image.Image:
    """Return an encoder's centred square crop, `crop_share` of the shorter side, as (side, side) pixels."""
    length = max(1, round(crop_share * min(picture.size)))
    left, top = (picture.width - length) // 2, (picture.height - length) // 2
    crop = picture.convert("RGB").crop((left, top, left + length, top + length))
    return crop.resize((side, side), Image.Resampling.LANCZOS)


def highlight(square: Image.Image, brightness: np.ndarray) -> Image.Image:
    """Return the picture in colour where `brightness` (H, W) in [0, 1] is one, and dark and grey where it is zero."""
    colours = np.asarray(square, dtype=np.float64)
    grey = np.asarray(square.convert("L"), dtype=np.float64)[..., None]
    share = brightness[..., None]
    return from_array((share * colours + (1 - share) * _DARK * grey).round().clip(0, 255).astype(np.uint8))


def _truncated(word: str, width: int) -> str:
    if font(_TEXT_SIZE).getlength(word) <= width:
        return word
    while word and font(_TEXT_SIZE).getlength(word + "…") > width:
        word = word[:-1]
    return word + "…"
