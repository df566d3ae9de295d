"""The page and the tables of autoencoders."""

from __future__ import annotations

from collections.abc import Sequence

from seesay.core.paths import Paths
from seesay.params.autoencoding import PCA, Autoencoder
from seesay.params.project import Params
from seesay.plotting.embed import ExperimentFigures, SizeBudget
from seesay.plotting.table import (
    Footnotes,
    Row,
    Table,
    decimal,
    decimal_with_interval,
    percent,
    percent_with_interval,
    whole,
)

_AGREEMENT, _SHUFFLED = "agreement/", "_shuffled"


def autoencoder_tables(rows: Sequence[Row], notes: Footnotes) -> list[Table]:
    """Return the tables of reconstruction, completion, latents and encoder maps, with rows in the order of params."""
    return [
        _reconstruction(rows, notes),
        _completion([row for row in rows if row.get("test/hidden_psnr") is not None], notes),
        _latents([row for row in rows if row.get("test/probe_top1") is not None], notes),
        _error_correlations(rows, notes),
    ]


def describe_start(settings: Autoencoder) -> str:
    """Describe an autoencoder's encoder before training: `random weights`, `resnet9, frozen`."""
    if settings.architecture.name == PCA:
        return "computed"
    if settings.parent is None:
        return "random weights"
    is_frozen = settings.architecture.arguments.get("train_backbone") is False
    return f"{settings.parent}, {'frozen' if is_frozen else 'fine-tuned'}"


def _reconstruction(rows: Sequence[Row], notes: Footnotes) -> Table:
    pca_rows = {row["dataset"]: row for row in rows if row["architecture"] == PCA}
    lines = []
    for row in rows:
        pca, gain = pca_rows.get(row["dataset"]), None
        if pca is not None and pca is not row and pca.get("latent_size") == row.get("latent_size"):
            gain = row["test/psnr"] - pca["test/psnr"]
        lines.append(
            (
                row["cell"],
                row["dataset"] + notes.mark(row["substitutes"]),
                row.get("starts_from", ""),
                whole(row.get("latent_size")),
                decimal(row.get("test/mse"), decimals=5),
                decimal_with_interval(row.get("test/psnr"), row.get("test/psnr_low"), row.get("test/psnr_high")),
                "–" if gain is None else f"{gain:+.2f}",
                decimal(row.get("test/ssim"), decimals=3),
                decimal(row.get("test/mean_image_psnr"), decimals=2),
            )
        )
    return Table(
        "Autoencoders",
        "Reconstruction of the test split, with nothing hidden, even for autoencoders trained to complete images. "
        "Pixels are in [0, 1]; PSNR is the mean over images, with its 95 % bootstrap interval. Principal components "
        "(PCA) are the best linear autoencoder of the same latent size. The mean image is what a network that ignores "
        "its input could return.",
        (
            *("autoencoder", "dataset", "encoder starts from"),
            *("latent size", "MSE", "PSNR, dB", "above PCA, dB", "SSIM", "mean image's PSNR, dB"),
        ),
        tuple(lines),
        num_names=3,
        main=("autoencoder", "PSNR, dB", "above PCA, dB", "SSIM", "mean image's PSNR, dB"),
    ).without_empty_columns()


def _completion(rows: Sequence[Row], notes: Footnotes) -> Table:
    def interval(row: Row, key: str) -> str:
        return decimal_with_interval(row.get(key), row.get(f"{key}_low"), row.get(f"{key}_high"))

    return Table(
        "Hidden patches",
        "PSNR in dB over the hidden pixels, the mean over test images, with its 95 % bootstrap interval. The same "
        "patches are hidden for all. Inpainting is OpenCV's (Navier-Stokes), which is not trained. The difference is "
        "paired. SSIM is computed on each patch separately.",
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
        main=("autoencoder", "hidden, dB", "inpainting, dB", "difference, dB", "hidden, SSIM"),
    ).without_empty_columns()


def _latents(rows: Sequence[Row], notes: Footnotes) -> Table:
    return Table(
        "Class information in latents",
        "Top-1 on test of a linear probe: a logistic regression on standardised latents, fitted on train, with its "
        "regularisation chosen on val. Beside it the top-1 of the classifier that the encoder was taken from, and the "
        "share of the five nearest training images, by cosine, that have the test image's class.",
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


def _error_correlations(rows: Sequence[Row], notes: Footnotes) -> Table:
    names = dict.fromkeys(
        key for row in rows for key in row if key.startswith(_AGREEMENT) and not key.endswith(_SHUFFLED)
    )
    return Table(
        "Encoder maps and reconstruction error",
        "Spearman's rank correlation of a map with low reconstruction error, over the squares of an image or, with "
        "masking, over its hidden patches; the mean over test images. The control uses the map of another image. "
        "Grad-CAM is of the classifier that the encoder was taken from; layers are the encoder's, counted from the "
        "image.",
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


MAX_PAGE_BYTES = 1_850_000
"""Limit on the size of the page's figures, as on the other pages."""

RECONSTRUCTIONS = (
    ("reconstructions.webp", "Test images, their reconstructions and the error"),
    ("completions.webp", "Test images with hidden patches, completed by the autoencoder and by inpainting"),
)
LATENTS = (
    (
        "latents.svg",
        "Latents of test images along their first two principal components, coloured by class, and the class means",
    ),
    ("interpolations.webp", "Interpolations between the latents of two test images, decoded"),
    ("neighbours.webp", "Test images and their nearest training images by latents"),
)
MAPS = (
    ("maps.webp", "Test images, their reconstructions and the error, beside Grad-CAM and the encoder's feature maps"),
    ("agreement.svg", "Rank correlation of each map with low reconstruction error, beside that of other images' maps"),
)
ORDER = (
    ("evaluate_autoencoder", RECONSTRUCTIONS),
    ("explain_autoencoder", MAPS),
    *(("evaluate_autoencoder", (figure,)) for figure in LATENTS),
)
"""Stages and their figures, by priority where the page cannot hold all of them."""


def collect_autoencoder_figures(
    params: Params, paths: Paths, *, max_bytes: int = MAX_PAGE_BYTES
) -> list[ExperimentFigures]:
    """Collect each autoencoder's figures from the workspace, up to `max_bytes` in all.

    Reconstructions of all autoencoders come first, then encoder maps, then latents.
    """
    experiments = [ExperimentFigures(cell, "autoencoder", []) for cell in params.autoencoders]
    budget = SizeBudget(max_bytes)
    for stage, names in ORDER:
        for experiment in experiments:
            budget.add(experiment, paths.figures(stage, experiment.cell), names)
    return experiments
