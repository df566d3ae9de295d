"""What do the tables of autoencoders say? How well each draws and completes, and what its latents know of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seesay.params.autoencoding import PCA, Autoencoder
from seesay.plotting.numbers import decimal, percent, percent_with_interval, whole
from seesay.plotting.table import Footnotes, Table

_AGREEMENT, _SHUFFLED = "agreement/", "_shuffled"

Row = dict[str, Any]


def autoencoder_tables(rows: Sequence[Row], notes: Footnotes) -> list[Table]:
    """One of drawing, one of completing, one of latents, one of maps; rows in the order of params."""
    return [
        _drawing(rows, notes),
        _completing([row for row in rows if row.get("test/hidden_psnr") is not None], notes),
        _latents([row for row in rows if row.get("test/probe_top1") is not None], notes),
        _agreements(rows, notes),
    ]


def _drawing(rows: Sequence[Row], notes: Footnotes) -> Table:
    linear = {row["dataset"]: row for row in rows if row["architecture"] == PCA}
    lines = []
    for row in rows:
        floor = linear.get(row["dataset"])
        comparable = floor is not None and floor is not row and floor.get("latent_size") == row.get("latent_size")
        above = row["test/psnr"] - floor["test/psnr"] if comparable and floor is not None else None
        lines.append(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                row.get("starts_from", ""),
                whole(row.get("latent_size")),
                decimal(row.get("test/mse"), decimals=5),
                decimal_with_interval(row.get("test/psnr"), row.get("test/psnr_low"), row.get("test/psnr_high")),
                "–" if above is None else f"{above:+.2f}",
                decimal(row.get("test/ssim"), decimals=3),
                decimal(row.get("test/mean_image_psnr"), decimals=2),
            )
        )
    return Table(
        "Autoencoders",
        "On the test split, pixels in 0 to 1; PSNR is the mean over images, with its 95 % bootstrap interval. "
        "Principal components are the best linear autoencoder of as many numbers, the mean image is what a network "
        "that ignores its input could give. Nothing is hidden here, not from those either that "
        "learned to complete.",
        (
            *("autoencoder", "dataset", "encoder starts from"),
            *("latent numbers", "MSE", "PSNR, dB", "above PCA, dB", "SSIM", "mean image's PSNR, dB"),
        ),
        tuple(lines),
        num_names=3,
    ).without_empty_columns()


def _completing(rows: Sequence[Row], notes: Footnotes) -> Table:
    def interval(row: Row, key: str) -> str:
        return decimal_with_interval(row.get(key), row.get(f"{key}_low"), row.get(f"{key}_high"))

    return Table(
        "Hidden patches",
        "PSNR in dB of the pixels that were hidden, the mean over test images with its 95 % bootstrap interval; the "
        "same patches for all. Inpainting is OpenCV's (Navier-Stokes), which has learned nothing; the difference is "
        "paired. SSIM is of patches, each by itself.",
        (
            *("autoencoder", "dataset", "hidden"),
            *("hidden, dB", "inpainting, dB", "difference, dB", "mean image, dB", "visible pixels, dB"),
            *("hidden, SSIM", "inpainting, SSIM", "visible, SSIM"),
        ),
        tuple(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                f"{percent(row.get('share'), decimals=0)} % of {row.get('patch_size')}x{row.get('patch_size')} patches",
                interval(row, "test/hidden_psnr"),
                interval(row, "test/inpainting_hidden_psnr"),
                interval(row, "test/psnr_over_inpainting"),
                *(decimal(row.get(f"test/{key}_psnr"), decimals=2) for key in ("mean_image_hidden", "visible")),
                *(decimal(row.get(f"test/{key}_ssim")) for key in ("hidden", "inpainting_hidden", "visible")),
            )
            for row in rows
        ),
        num_names=3,
    ).without_empty_columns()


def _latents(rows: Sequence[Row], notes: Footnotes) -> Table:
    return Table(
        "What latents know of classes",
        "Top-1 on test of a logistic regression on standardised latents (fitted on train, its regularisation chosen on "
        "val), beside the classifier that the encoder was taken from; and the share of the five nearest training "
        "images, by cosine, that are of the test image's class.",
        (
            *("autoencoder", "dataset", "encoder starts from"),
            *("linear probe, %", "its classifier, %", "neighbours of the same class, %"),
        ),
        tuple(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                row.get("starts_from", ""),
                percent_with_interval(*(row.get(f"test/probe_top1{end}") for end in ("", "_low", "_high"))),
                percent(row.get("test/classifier_top1")),
                percent(row.get("test/neighbours_same_class")),
            )
            for row in rows
        ),
        num_names=3,
    ).without_empty_columns()


def _agreements(rows: Sequence[Row], notes: Footnotes) -> Table:
    names = dict.fromkeys(
        key for row in rows for key in row if key.startswith(_AGREEMENT) and not key.endswith(_SHUFFLED)
    )
    return Table(
        "Where encoders look and what is drawn well",
        "Rank correlation (Spearman), the mean over test images, of a map's height and a small error of "
        "reconstruction, over the squares of an image, or over the patches that were hidden; beside it that with the "
        "map of another image. Grad-CAM is of the classifier that the encoder was taken from, layers are its own, "
        "counted from the image.",
        ("autoencoder", "dataset", "map", "own map", "another image's map"),
        tuple(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                name.removeprefix(_AGREEMENT).replace("grad_cam", "Grad-CAM").replace("layer", "layer "),
                decimal(row[name]),
                decimal(row.get(name + _SHUFFLED)),
            )
            for row in rows
            for name in names
            if row.get(name) is not None
        ),
        num_names=3,
    )


def decimal_with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """A number with the interval it lies in: `23.41 (23.29 to 23.53)`."""
    if value is None or low is None or high is None:
        return decimal(value, decimals=2)
    return f"{decimal(value, decimals=2)} ({decimal(low, decimals=2)} to {decimal(high, decimals=2)})"


def starts_from(settings: Autoencoder) -> str:
    """An autoencoder's encoder before it learns, in words."""
    if settings.architecture.name == PCA:
        return "computed"
    if settings.parent is None:
        return "random weights"
    stays = settings.architecture.arguments.get("train_backbone") is False
    return f"{settings.parent}, {'frozen' if stays else 'fine-tuned'}"
