"""What do autoencoders draw, look at and know? What reports/autoencoders.html shows."""

from __future__ import annotations

from seesay.core.paths import Paths
from seesay.params.project import Params
from seesay.plotting.embed import CellFigures, Room

MAX_PAGE_BYTES = 1_850_000
"""Of pictures, as on the other pages."""

DRAWN = (
    ("reconstructions.webp", "Test images, their reconstructions and the error"),
    ("completions.webp", "Test images of which patches were hidden, completed by the autoencoder and by inpainting"),
)
LATENTS = (
    (
        "latents.svg",
        "Latents of test images along their two strongest components, each class in a colour, its mean named",
    ),
    ("interpolations.webp", "What is drawn on the way from one test image's latents to another's"),
    ("neighbours.webp", "Test images and the training images nearest to them among the latents"),
)
MAPS = (
    ("maps.webp", "Test images, what was drawn and where it is wrong, beside Grad-CAM and the encoder's maps"),
    ("agreement.svg", "How a map's height goes with a small error of reconstruction, beside maps of other images"),
)

ORDER = (
    ("evaluate_autoencoder", DRAWN),
    ("explain_autoencoder", MAPS),
    *(("evaluate_autoencoder", (one,)) for one in LATENTS),
)
"""What comes first where there is no room for all."""


def collect_autoencoders(params: Params, paths: Paths, *, max_bytes: int = MAX_PAGE_BYTES) -> list[CellFigures]:
    """The figures of each autoencoder that the workspace has: of all of them what they draw, then what they look at,
    then what their latents say, as far as `max_bytes` go."""
    cells = [CellFigures(cell, "autoencoder", []) for cell in params.autoencoders]
    room = Room(max_bytes)
    for stage, names in ORDER:
        for one in cells:
            room.add(one, paths.figures(stage, one.cell), names, paths)
    return cells
