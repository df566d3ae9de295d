"""What did a captioner look at, word by word? One strip of small pictures a caption, lit where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image, ImageDraw

from seesay.captioning.explain import NO_PLACES, enlarged, entropy_bits, grid_side
from seesay.core.files import atomic_directory, write_json
from seesay.plotting.panels import font, from_array
from seesay.seeding import numpy_generator

if TYPE_CHECKING:
    from seesay.captioning.data.records import CaptionRecords
    from seesay.captioning.explain import KeptAttention
    from seesay.params.results import Evaluation

TILE = 112
"""Pixels a side, a multiple of the usual grids' 7 and 14 places."""

_GAP, _COLUMNS, _TEXT_SIZE, _LINE = 6, 7, 14, 20
_DARK = 0.42  # of its brightness is left where nothing is looked at
_GROUND, _WORD, _QUIET = "#16181b", "#e6e8ea", "#a4abb3"  # dark, so that it suits a light page and a dark one
_QUALITY = 44  # of WebP: a page has many of these


class Images(Protocol):
    """RGB pictures by row of the dataset's records."""

    def __getitem__(self, row: int) -> Image.Image: ...


def draw_attention_cases(
    folder: Path, attention: KeptAttention, captions: CaptionRecords, images: Images, *, settings: Evaluation
) -> None:
    """Fills `folder` with `attention.json` and, of test images drawn with the panel's seed, a strip each.

    Where the captioner looks at pooled features there is no strip, and the file says why.
    """
    note = "" if attention.words else NO_PLACES
    spoken = [row for row in captions.rows("test") if attention.words.get(captions.records[row].image_id)]
    drawn = numpy_generator(settings.panel_seed, "attention").permutation(len(spoken))[: settings.panel_images]
    cases = []
    with atomic_directory(folder) as new:
        for number, row in enumerate((spoken[place] for place in np.sort(drawn)), start=1):
            image_id = captions.records[row].image_id
            words, weights = attention.words[image_id], attention.weights[image_id]
            strip = f"case_{number:02}.webp"
            draw_attention(new / strip, images[row], words, weights, seen_share=attention.seen_share)
            bits = [round(float(value), 3) for value in entropy_bits(weights)]
            cases.append({"image_id": image_id, "attention": strip, "words": list(words), "entropy_bits": bits})
        write_json(new / "attention.json", {"looks_at": attention.looks_at, "note": note, "cases": cases})


def draw_attention(
    path: Path, picture: Image.Image, words: Sequence[str], weights: np.ndarray, *, seen_share: float
) -> None:
    """Writes a WebP of the part of `picture` that the encoder saw and, for each word, that part lit by its attention.

    `weights` (T, L) sum to one a word. All words share one scale: full brightness is the caption's largest weight, so
    that a word that looks everywhere alike is dim everywhere. The eye compares ratios, so brightness is the square root
    of the weight. `seen_share`: see `seen`.
    """
    assert len(words) == len(weights), (len(words), len(weights))
    side = TILE - TILE % grid_side(weights.shape[1])
    square = seen(picture, seen_share, side)
    tiles = [(square, "the image")]
    if len(words):
        maps = enlarged(weights, side)
        tiles += [(lit(square, np.sqrt(one / maps.max())), word) for one, word in zip(maps, words, strict=True)]
    columns = min(_COLUMNS, len(tiles))
    num_rows = -(-len(tiles) // columns)
    size = (columns * (side + _GAP) + _GAP, num_rows * (side + _LINE + _GAP) + _GAP)
    canvas = Image.new("RGB", size, _GROUND)
    pen = ImageDraw.Draw(canvas)
    for number, (tile, word) in enumerate(tiles):
        x, y = _GAP + number % columns * (side + _GAP), _GAP + number // columns * (side + _LINE + _GAP)
        canvas.paste(tile, (x, y))
        colour = _WORD if number else _QUIET
        pen.text((x + side // 2, y + side + 2), _fitting(word, side), fill=colour, font=font(_TEXT_SIZE), anchor="ma")
    canvas.save(path, format="WEBP", quality=_QUALITY, method=6)


def seen(picture: Image.Image, seen_share: float, side: int) -> Image.Image:
    """The centred square that an encoder saw, `seen_share` of the shorter side, as (side, side) pixels."""
    length = max(1, round(seen_share * min(picture.size)))
    left, top = (picture.width - length) // 2, (picture.height - length) // 2
    crop = picture.convert("RGB").crop((left, top, left + length, top + length))
    return crop.resize((side, side), Image.Resampling.LANCZOS)


def lit(square: Image.Image, brightness: np.ndarray) -> Image.Image:
    """The picture with its colours where `brightness` (H, W) in [0, 1] is one, dark and grey where it is zero."""
    colours = np.asarray(square, dtype=np.float64)
    grey = np.asarray(square.convert("L"), dtype=np.float64)[..., None]
    share = brightness[..., None]
    return from_array((share * colours + (1 - share) * _DARK * grey).round().clip(0, 255).astype(np.uint8))


def _fitting(word: str, width: int) -> str:
    if font(_TEXT_SIZE).getlength(word) <= width:
        return word
    while word and font(_TEXT_SIZE).getlength(word + "…") > width:
        word = word[:-1]
    return word + "…"
