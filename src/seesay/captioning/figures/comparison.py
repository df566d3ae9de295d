"""How do the captioners compare, in figures: a ranking per dataset, and the same test images captioned by each?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from seesay.captioning.compare import choose_shared_cases, describe_shared_rule
from seesay.captioning.explain import entropy_bits
from seesay.captioning.figures.attention import draw_attention
from seesay.core.files import atomic_directory, write_json
from seesay.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY, drawn

if TYPE_CHECKING:
    from seesay.captioning.compare import Captioned, Comparison
    from seesay.captioning.data.records import CaptionRecords
    from seesay.captioning.explain import KeptAttention
    from seesay.params.results import Evaluation

THUMBNAIL = 224
"""Pixels of the longer side."""

_THUMBNAIL_QUALITY = 62
_LINES = {
    "floor_constant": (GREY, ":"),
    "floor_random": (GREY, "--"),
    "floor_nearest": (ORANGE, "-."),
    "human": (GREEN, "-"),
}


class Images(Protocol):
    """RGB pictures by row of the dataset's records."""

    def __getitem__(self, row: int) -> Image.Image: ...


def draw_captioner_comparison(
    folder: Path,
    comparison: Comparison,
    attention: Mapping[str, KeptAttention],
    images: Mapping[str, Images],
    *,
    settings: Evaluation,
) -> None:
    """Fills `folder`, all or nothing: `ranking_<dataset>.svg`, and `cases.json` with its pictures.

    For each dataset the chosen test images, a thumbnail each, and for each captioner its caption, its alternatives and,
    where it looks at a grid, a strip of what it looked at. `images` are by dataset, `attention` by captioner.
    """
    with atomic_directory(folder) as new:
        cases = {}
        for name, captions in comparison.captions.items():
            draw_caption_ranking(new / f"ranking_{name}.svg", comparison.rows, dataset=name)
            cases[name] = _draw_cases(
                new, captions, comparison.captioned[name], attention, images[name], settings=settings
            )
        write_json(new / "cases.json", cases)


def draw_caption_ranking(path: Path, rows: Sequence[Mapping[str, Any]], *, dataset: str) -> None:
    """A line per captioner of `dataset` from the best down: test CIDEr-D with its 95 % interval, its CIDEr-D when the
    images are shuffled; lines at the floors and at what people reach."""
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    ranked = sorted((row for row in of_dataset if row["set"] == "test"), key=lambda row: -row["test/cider_d"])
    with drawn(path, width=8.4, height=0.34 * len(ranked) + 2.0) as figure:
        axes = figure.subplots()
        for place, row in enumerate(ranked):
            value = row["test/cider_d"]
            low, high = (row.get(key) for key in ("test/cider_d_low", "test/cider_d_high"))
            name = "_" if place else ""  # matplotlib leaves out names that begin so: each mark is named once
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color=SKY, linewidth=3, label=name + "95 % interval")
            axes.plot(value, place, "o", color=BLUE, markersize=7, label=name + "test images")
            blind = row.get("test_shuffled/cider_d")
            if blind is not None:
                shuffled = name + "test images, shuffled"
                axes.plot(blind, place, "o", color=BLUE, markerfacecolor="white", markersize=6, label=shuffled)
            right = value if high is None else high
            axes.annotate(
                *(f"{value:.3f}", (right, place)), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
            )
        for row in of_dataset:
            if row["set"] in _LINES:
                (colour, style), value = _LINES[row["set"]], row["test/cider_d"]
                label = f"{row['cell']} ({value:.3f})"
                axes.axvline(value, color=colour, linestyle=style, linewidth=1.2, label=label)
        axes.set_yticks(range(len(ranked)), [row["cell"] for row in ranked])
        axes.set(ylim=(len(ranked) - 0.4, -0.6), xlabel="test CIDEr-D (1.0 is often printed as 100)")
        highest = max((row.get("test/cider_d_high", row["test/cider_d"]) for row in of_dataset), default=1.0)
        axes.set_xlim(0, 1.1 * max(highest, 0.05))
        axes.grid(visible=False, axis="y")
        figure.suptitle(f"{dataset}: captioners by CIDEr-D", x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.legend(loc="outside lower center", ncols=2)


def thumbnail(picture: Image.Image) -> Image.Image:
    """The picture, aspect kept, its longer side THUMBNAIL pixels."""
    scale = THUMBNAIL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _draw_cases(
    folder: Path,
    captions: CaptionRecords,
    captioned: Sequence[Captioned],
    attention: Mapping[str, KeptAttention],
    images: Images,
    *,
    settings: Evaluation,
) -> dict[str, Any]:
    """One dataset's entry of `cases.json`; `captioned` are its captioners from the best down."""
    seed, name = settings.panel_seed, captions.name
    scores = {one.cell: one.cider_d for one in captioned}
    own = {image_id: [one.cider_d for one in ones] for image_id, ones in captioned[0].alternatives.items()}
    chosen = choose_shared_cases(scores, own, settings.panel_images, seed=seed)
    rows = {captions.records[row].image_id: row for row in captions.rows("test")}
    cases = []
    for number, (kind, image_id) in enumerate(chosen, start=1):
        picture, stem = images[rows[image_id]], f"{name}_{number:02}"
        thumbnail(picture).save(folder / f"{stem}.webp", format="WEBP", quality=_THUMBNAIL_QUALITY, method=6)
        said = []
        for one in captioned:
            entry = _said(one, image_id)
            kept = attention.get(one.cell)
            if kept is not None and kept.words.get(image_id):
                entry["attention"] = f"{stem}_{one.cell}.webp"
                words, weights = kept.words[image_id], kept.weights[image_id]
                draw_attention(folder / entry["attention"], picture, words, weights, seen_share=kept.seen_share)
                entry["words"] = list(words)
                entry["entropy_bits"] = [round(float(bits), 3) for bits in entropy_bits(weights)]
            said.append(entry)
        references = list(captions.records[rows[image_id]].captions)
        case = {"kind": kind, "image_id": image_id, "image": f"{stem}.webp", "references": references}
        cases.append({**case, "captions": said})
    return {"rule": describe_shared_rule(chosen, len(captioned), seed=seed), "cases": cases}


def _said(one: Captioned, image_id: int) -> dict[str, Any]:
    alternatives = [
        {"caption": other.caption, "cider_d": round(other.cider_d, 6), "log_probability": other.log_probability}
        for other in one.alternatives.get(image_id, ())
    ]
    chosen = one.chosen[image_id]
    said = {"cell": one.cell, "caption": chosen.caption, "cider_d": round(chosen.cider_d, 6)}
    return {**said, "alternatives": alternatives}
