"""Figures that compare captioners: a ranking per dataset, and the same test images captioned by each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from seesay.captioning.compare import choose_shared_cases, describe_shared_rule
from seesay.captioning.explain import entropy_bits
from seesay.captioning.figures.attention import draw_attention
from seesay.core.files import atomic_directory, write_json
from seesay.plotting.style import BLUE, GREEN, GREY, ORANGE, SKY, new_figure

if TYPE_CHECKING:
    from seesay.captioning.compare import Comparison, ScoredPredictions
    from seesay.captioning.data.records import CaptionRecords
    from seesay.captioning.explain import CaptionAttention
    from seesay.captioning.figures.captions import Images
    from seesay.params.results import Evaluation

THUMBNAIL = 224
"""Longer side of a thumbnail, in pixels."""

_THUMBNAIL_QUALITY = 62
_LINES = {
    "floor_constant": (GREY, ":"),
    "floor_random": (GREY, "--"),
    "floor_nearest": (ORANGE, "-."),
    "human": (GREEN, "-"),
}


def draw_captioner_comparison(
    folder: Path,
    comparison: Comparison,
    attention: Mapping[str, CaptionAttention],
    images: Mapping[str, Images],
    *,
    settings: Evaluation,
) -> None:
    """Fill `folder`, all or nothing: `ranking_<dataset>.svg`, and `cases.json` with its pictures.

    `cases.json` has, for each dataset, the chosen test images with a thumbnail, and for each captioner its caption, its
    alternatives and, with grid features, a strip of its attention. `images` are by dataset, `attention` by captioner.
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
    """Draw a row per captioner of `dataset`, the best at the top, with lines at the floors and at human captions.

    A row has the test CIDEr-D with its 95 % interval, its mean over seeds where there are several, and the CIDEr-D with
    shuffled images.
    """
    of_dataset = [row for row in rows if row["dataset"] == dataset]
    ranked = sorted((row for row in of_dataset if row["set"] == "test"), key=lambda row: -row["test/cider_d"])
    with new_figure(path, width=8.4, height=0.34 * len(ranked) + 2.0) as figure:
        axes = figure.subplots()
        has_mean = False
        for rank, row in enumerate(ranked):
            value = row["test/cider_d"]
            low, high = (row.get(key) for key in ("test/cider_d_low", "test/cider_d_high"))
            name = "_" if rank else ""  # matplotlib omits such labels: one legend entry per mark
            if low is not None and high is not None:
                axes.plot([low, high], [rank, rank], color=SKY, linewidth=3, label=name + "95 % interval")
            axes.plot(value, rank, "o", color=BLUE, markersize=7, label=name + "test images")
            shuffled = row.get("test_shuffled/cider_d")
            if shuffled is not None:
                label = name + "test images, shuffled"
                axes.plot(shuffled, rank, "o", color=BLUE, markerfacecolor="white", markersize=6, label=label)
            mean, deviation = (row.get(f"seeds/test/cider_d_{key}") for key in ("mean", "std"))
            if mean is not None and deviation is not None:
                label = ("_" if has_mean else "") + "mean and standard deviation over seeds"
                axes.errorbar(
                    *(mean, rank + 0.3),
                    xerr=deviation,
                    color=ORANGE,
                    marker="s",
                    markersize=4,
                    capsize=3,
                    linestyle="none",
                    label=label,
                )
                has_mean = True
            right = value if high is None else high
            axes.annotate(
                *(f"{value:.3f}", (right, rank)), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8
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
    """Return the picture with its longer side THUMBNAIL pixels and the same aspect ratio."""
    scale = THUMBNAIL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _draw_cases(
    folder: Path,
    captions: CaptionRecords,
    captioned: Sequence[ScoredPredictions],
    attention: Mapping[str, CaptionAttention],
    images: Images,
    *,
    settings: Evaluation,
) -> dict[str, Any]:
    """Draw one dataset's pictures and return its entry of `cases.json`; `captioned` is from the best captioner down."""
    seed, name = settings.panel_seed, captions.name
    scores = {one.cell: one.cider_d for one in captioned}
    own = {image_id: [one.cider_d for one in ones] for image_id, ones in captioned[0].alternatives.items()}
    chosen = choose_shared_cases(scores, own, settings.panel_images, seed=seed)
    rows = {captions.records[row].image_id: row for row in captions.rows("test")}
    cases = []
    for number, (kind, image_id) in enumerate(chosen, start=1):
        picture, stem = images[rows[image_id]], f"{name}_{number:02}"
        thumbnail(picture).save(folder / f"{stem}.webp", format="WEBP", quality=_THUMBNAIL_QUALITY, method=6)
        entries = []
        for one in captioned:
            entry = _entry(one, image_id)
            maps = attention.get(one.cell)
            if maps is not None and maps.words.get(image_id):
                entry["attention"] = f"{stem}_{one.cell}.webp"
                words, weights = maps.words[image_id], maps.weights[image_id]
                draw_attention(folder / entry["attention"], picture, words, weights, crop_share=maps.crop_share)
                entry["words"] = list(words)
                entry["entropy_bits"] = [round(float(bits), 3) for bits in entropy_bits(weights)]
            entries.append(entry)
        references = list(captions.records[rows[image_id]].captions)
        case = {"kind": kind, "image_id": image_id, "image": f"{stem}.webp", "references": references}
        cases.append({**case, "captions": entries})
    return {"rule": describe_shared_rule(chosen, len(captioned), seed=seed), "cases": cases}


def _entry(one: ScoredPredictions, image_id: int) -> dict[str, Any]:
    alternatives = [
        {"caption": other.caption, "cider_d": round(other.cider_d, 6), "log_probability": other.log_probability}
        for other in one.alternatives.get(image_id, ())
    ]
    chosen = one.chosen[image_id]
    entry = {"cell": one.cell, "caption": chosen.caption, "cider_d": round(chosen.cider_d, 6)}
    return {**entry, "alternatives": alternatives}
