"""Attention strips: for each word of a caption, a small picture that is bright where the attention lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from seesay.captioning.explain import NO_ATTENTION, entropy_bits, grid_side, upsample
from seesay.core.files import atomic_directory, write_json
from seesay.plotting.panels import font, from_array
from seesay.seeding import numpy_generator

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
