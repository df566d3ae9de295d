"""The figures of reports/autoencoders.html: reconstructions, encoder maps and latents."""

from __future__ import annotations

from seesay.core.paths import Paths
from seesay.params.project import Params
from seesay.plotting.embed import ExperimentFigures, SizeBudget

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
            budget.add(experiment, paths.figures(stage, experiment.cell), names, paths)
    return experiments
