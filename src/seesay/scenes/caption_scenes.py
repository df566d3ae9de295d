"""Generated caption source: scenes of two or three things with five captions each, in COCO's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from seesay.scenes.drawing import SHAPES, Canvas, Colour, Pose, cloudy, jpeg_bytes, write_zip
from seesay.seeding import numpy_generator

# COCO's own file names, so that COCO's reader works unchanged.
ANNOTATIONS_FILE = "annotations_trainval2017.zip"
CAPTION_SCENE_FILES = (ANNOTATIONS_FILE, "train2017.zip", "val2017.zip")

IMAGE_SIZE = 128
COLOURS: dict[str, Colour] = {
    "red": (205, 30, 35),
    "orange": (245, 140, 20),
    "yellow": (245, 225, 50),
    "green": (35, 150, 50),
    "blue": (40, 70, 205),
    "purple": (135, 45, 165),
    "white": (240, 240, 240),
    "black": (30, 30, 30),
}
RADII = {"small": (13.0, 17.0), "large": (24.0, 30.0)}
# The phrase, the colours above and below the horizon, and the horizon's distance from the top as a share of the image.
PLACES: tuple[tuple[str, tuple[Colour, Colour], float], ...] = (
    ("on the grass", ((150, 200, 235), (110, 175, 90)), 0.45),
    ("in the snow", ((175, 190, 210), (225, 230, 238)), 0.4),
    ("at night", ((25, 30, 75), (55, 60, 75)), 0.7),
    ("on the beach", ((120, 190, 220), (225, 205, 155)), 0.5),
    ("in a room", ((205, 180, 165), (150, 110, 85)), 0.75),
)


def write_caption_scenes(folder: Path, *, num_train: int, num_val: int, seed: int) -> None:
    """Write COCO's three archives to `folder`. The same arguments give the same bytes.

    Image ids count from 1, train first. A larger `num_train` does not change the earlier train images.
    """
    numbers = {"train2017": range(1, num_train + 1), "val2017": range(num_train + 1, num_train + num_val + 1)}
    annotations: list[tuple[str, bytes]] = []
    for split, image_ids in numbers.items():
        images, captions = [], {}
        for position, image_id in enumerate(image_ids):
            image, captions[image_id] = draw_scene(rng=numpy_generator(seed, "scene captions", split, position))
            images.append((f"{split}/{image_id:012d}.jpg", jpeg_bytes(image)))
        write_zip(folder / f"{split}.zip", images)
        content = json.dumps(_coco_captions(split, captions), sort_keys=True).encode()
        annotations.append((f"annotations/captions_{split}.json", content))
    write_zip(folder / ANNOTATIONS_FILE, annotations)


def draw_scene(*, rng: np.random.Generator) -> tuple[Image.Image, list[str]]:
    """Draw a 128 x 128 RGB image and write its five captions."""
    place, colours, horizon = PLACES[rng.integers(len(PLACES))]
    canvas = Canvas(_landscape(colours, horizon + rng.uniform(-0.08, 0.08), rng))
    things = _compose(colours, rng)
    for thing, radius in things:
        body = COLOURS[thing.colour]
        # The other two colours are for details: a lighter or darker shade of the body's, and near black or grey.
        accent = _mixed(body, (255, 255, 255) if sum(body) < 550 else (90, 90, 90), 0.5)
        dark = (25, 25, 25) if sum(body) > 150 else (110, 110, 110)
        pose = Pose(
            x=thing.x,
            y=thing.y,
            radius=radius,
            radians=np.radians(rng.uniform(-12, 12)),
            is_mirrored=bool(rng.integers(2)),
        )
        canvas.thing(thing.name, pose, {"body": body, "accent": accent, "dark": dark})
    image = canvas.finished(noise=rng.uniform(2, 6), rng=rng)
    return image, write_captions([thing for thing, _ in things], place, rng=rng)


def _compose(ground: tuple[Colour, Colour], rng: np.random.Generator) -> list[tuple[Thing, float]]:
    """Place two or three different things, each in a different quarter of the image.

    Their colours differ from each other and from the background's.
    """
    count = int(rng.integers(2, 4))
    names = rng.choice(sorted(SHAPES), size=count, replace=False)
    visible = [name for name, colour in COLOURS.items() if all(_distance(colour, other) > 95 for other in ground)]
    colours = rng.choice(visible, size=count, replace=False)
    quarters = rng.choice(4, size=count, replace=False)
    things = []
    for name, colour, quarter in zip(names, colours, quarters, strict=True):
        size = ("small", "large")[rng.integers(2)]
        radius = float(rng.uniform(*RADII[size]))
        free = IMAGE_SIZE / 4 - radius  # largest distance from the quarter's centre, per axis
        x, y = (IMAGE_SIZE * (0.25 + 0.5 * part) + float(rng.uniform(-free, free)) for part in divmod(int(quarter), 2))
        things.append((Thing(str(name), str(colour), size, x, y), radius))
    return things


def _landscape(colours: tuple[Colour, Colour], horizon: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the background, float (128, 128, 3): an upper and a lower part with soft patches."""
    upper, lower = (
        cloudy(IMAGE_SIZE, colour, _mixed(colour, (255, 255, 255), 0.15), cells=4, rng=rng) for colour in colours
    )
    rows = (np.arange(IMAGE_SIZE) < horizon * IMAGE_SIZE)[:, None, None]
    landscape: np.ndarray = np.where(rows, upper, lower)
    return landscape


def _mixed(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _distance(first: Colour, second: Colour) -> float:
    return float(np.linalg.norm(np.subtract(first, second)))


def _coco_captions(split: str, captions: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    return {
        "info": {"description": "Scenes generated by seesay, in the layout of COCO 2017", "version": "1", "year": 2017},
        "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
        "images": [
            {
                "id": image_id,
                "file_name": f"{image_id:012d}.jpg",
                "coco_url": f"generated:scenes/{split}/{image_id:012d}.jpg",
                "width": IMAGE_SIZE,
                "height": IMAGE_SIZE,
                "license": 1,
            }
            for image_id in captions
        ],
        "annotations": [
            {"id": 10 * image_id + position, "image_id": image_id, "caption": caption}
            for image_id, sentences in captions.items()
            for position, caption in enumerate(sentences)
        ],
    }


NUM_CAPTIONS = 5
NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class Thing:
    """One thing of a scene: its name, its colour and size in words, and its centre in pixels."""

    name: str
    colour: str
    size: str
    x: float
    y: float


def write_captions(things: Sequence[Thing], place: str, *, rng: np.random.Generator) -> list[str]:
    """Write five different captions of a scene of two or three things. `place` is a phrase like "in the snow"."""
    captions: list[str] = []
    while len(captions) < NUM_CAPTIONS:
        caption = _caption(things, place, rng)
        if caption not in captions:
            captions.append(caption)
    return captions


def relation(first: Thing, second: Thing) -> str:
    """Return the position of `first` relative to `second`, along the axis on which they are further apart."""
    across, down = first.x - second.x, first.y - second.y
    if abs(across) >= abs(down):
        return "to the left of" if across < 0 else "to the right of"
    return "above" if down < 0 else "below"


def _caption(things: Sequence[Thing], place: str, rng: np.random.Generator) -> str:
    pairs = list(permutations(things, 2))
    first, second = pairs[rng.integers(len(pairs))]
    where = relation(first, second)
    others = [thing for thing in things if thing is not first]
    shuffled = [things[i] for i in rng.permutation(len(things))]
    sentences = (
        f"{_full(first)} is {where} {_coloured(second)}",
        f"{_coloured(first)} {where} {_full(second)} {place}",
        f"there is {_coloured(first)} {where} {_coloured(second)}",
        f"a picture of {_listed([_coloured(thing) for thing in shuffled])}",
        f"{_listed([_full(thing) for thing in shuffled])} {place}",
        f"{NUMBERS[len(things)]} things {place}: {_listed([_plain(thing) for thing in shuffled])}",
        f"{_full(first)} {place} next to {_listed([_plain(thing) for thing in others])}",
        f"{_coloured(first)} can be seen {where} {_full(second)}",
    )
    chosen = sentences[rng.integers(len(sentences))]
    return chosen[0].upper() + chosen[1:] + "."


def _plain(thing: Thing) -> str:
    return _with_article(thing.name)


def _coloured(thing: Thing) -> str:
    return _with_article(f"{thing.colour} {thing.name}")


def _full(thing: Thing) -> str:
    return _with_article(f"{thing.size} {thing.colour} {thing.name}")


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _listed(phrases: Sequence[str]) -> str:
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
