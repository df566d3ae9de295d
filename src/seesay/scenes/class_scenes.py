"""Generated class images: ten kinds of things amid clutter, 64 x 64, in Tiny ImageNet's layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from seesay.scenes.drawing import SHAPES, Canvas, Colour, Pose, Role, cloudy, jpeg_bytes, random_colour, write_zip
from seesay.seeding import numpy_generator

CLASS_SCENES_FILE = "scenes.zip"
IMAGE_SIZE = 64
# No WordNet id starts with s, so these are not mistaken for ImageNet's.
WNIDS = {f"s{number:08d}": name for number, name in enumerate(sorted(SHAPES), start=1)}


def write_class_scenes(path: Path, *, num_train_per_class: int, num_val_per_class: int, seed: int) -> None:
    """Write the archive. The same arguments give the same bytes.

    A larger `num_train_per_class` does not change the earlier train images.
    """
    write_zip(path, _members(num_train_per_class, num_val_per_class, seed))


def draw_class_scene(name: str, *, rng: np.random.Generator) -> Image.Image:
    """Draw a 64 x 64 RGB image of a thing at a random place, size and angle, in random colours.

    There is clutter behind the thing, and a little in front of it.
    """
    background = random_colour(rng), random_colour(rng)
    canvas = Canvas(cloudy(IMAGE_SIZE, *background, cells=int(rng.integers(2, 9)), rng=rng))
    for _ in range(rng.integers(2, 6)):
        _clutter(canvas, rng, reach=11.0)
    radius = rng.uniform(17, 28)
    margin = 0.85 * radius  # the edge may cut off a small part
    x, y = rng.uniform(margin, IMAGE_SIZE - margin, 2)
    pose = Pose(
        x=x,
        y=y,
        radius=radius,
        radians=np.radians(rng.uniform(-20, 20)),
        slant=rng.uniform(-0.2, 0.2),
        is_mirrored=bool(rng.integers(2)),
    )
    canvas.thing(name, pose, _random_colours(background, rng))
    for _ in range(rng.integers(0, 2)):
        _clutter(canvas, rng, reach=7.0)
    return canvas.finished(noise=rng.uniform(2, 10), rng=rng)


def _random_colours(background: tuple[Colour, Colour], rng: np.random.Generator) -> dict[Role, Colour]:
    """Return three random colours. The body's is the one of four candidates that differs most from the background."""
    middle = np.mean(background, axis=0)
    candidates = [random_colour(rng) for _ in range(4)]
    body = max(candidates, key=lambda colour: float(np.abs(np.subtract(colour, middle)).sum()))
    accent = random_colour(rng)
    dark = (accent[1] // 3, accent[2] // 3, accent[0] // 3)
    return {"body": body, "accent": accent, "dark": dark}


def _clutter(canvas: Canvas, rng: np.random.Generator, *, reach: float) -> None:
    """Draw a random polygon or line within `reach` pixels of a random place."""
    centre = rng.uniform(0, canvas.size, 2)
    count = int(rng.integers(2, 7))
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    distances = rng.uniform(0.3, 1, count) * reach
    points = [
        (float(centre[0] + distance * np.cos(angle)), float(centre[1] + distance * np.sin(angle)))
        for angle, distance in zip(angles, distances, strict=True)
    ]
    if count < 4:
        canvas.line(points, random_colour(rng), rng.uniform(1, 3))
    else:
        canvas.polygon(points, random_colour(rng))


def _members(num_train: int, num_val: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the members of the archive in Tiny ImageNet's order.

    These are classes, words, train by class, and val in one folder with shuffled classes.
    """
    top = "scenes"
    yield f"{top}/wnids.txt", "".join(f"{wnid}\n" for wnid in WNIDS).encode()
    yield f"{top}/words.txt", "".join(f"{wnid}\t{name}\n" for wnid, name in WNIDS.items()).encode()
    whole = f"0\t0\t{IMAGE_SIZE - 1}\t{IMAGE_SIZE - 1}\n"  # the bounding box: the whole image
    for wnid, name in WNIDS.items():
        boxes = "".join(f"{wnid}_{number}.JPEG\t{whole}" for number in range(num_train))
        yield f"{top}/train/{wnid}/{wnid}_boxes.txt", boxes.encode()
        for number in range(num_train):
            image = draw_class_scene(name, rng=numpy_generator(seed, "scenes", "train", wnid, number))
            yield f"{top}/train/{wnid}/images/{wnid}_{number}.JPEG", jpeg_bytes(image)
    labels = [wnid for wnid in WNIDS for _ in range(num_val)]
    shuffled = [labels[i] for i in numpy_generator(seed, "scenes", "val", "order").permutation(len(labels))]
    yield (
        f"{top}/val/val_annotations.txt",
        "".join(f"val_{n}.JPEG\t{w}\t{whole}" for n, w in enumerate(shuffled)).encode(),
    )
    for number, wnid in enumerate(shuffled):
        image = draw_class_scene(WNIDS[wnid], rng=numpy_generator(seed, "scenes", "val", number))
        yield f"{top}/val/images/val_{number}.JPEG", jpeg_bytes(image)
