"""Which classes of an image source a subset holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seesay.errors import InputError

# TinyImageNet30, as public course projects use it.
TINY30 = (
    "n01443537",  # goldfish
    "n01855672",  # goose
    "n01882714",  # koala
    "n01910747",  # jellyfish
    "n02056570",  # king penguin
    "n02085620",  # Chihuahua
    "n02129165",  # lion
    "n02165456",  # ladybug
    "n02190166",  # fly
    "n02206856",  # bee
    "n02226429",  # grasshopper
    "n02279972",  # monarch
    "n02395406",  # hog
    "n02410509",  # bison
    "n02486410",  # baboon
    "n02504458",  # African elephant
    "n02509815",  # lesser panda
    "n02948072",  # candle
    "n02963159",  # cardigan
    "n03544143",  # hourglass
    "n03584254",  # iPod
    "n04070727",  # refrigerator
    "n04259630",  # sombrero
    "n04507155",  # umbrella
    "n07614500",  # ice cream
    "n07695742",  # pretzel
    "n07734744",  # mushroom
    "n07753592",  # banana
    "n07873807",  # pizza
    "n07920052",  # espresso
)

# None: every class of the source. tiny20 and tiny10 are the first of TINY30 in the order of their wnids.
SUBSETS: dict[str, tuple[str, ...] | None] = {
    "tiny10": TINY30[:10],
    "tiny20": TINY30[:20],
    "tiny30": TINY30,
    "tiny200": None,
    "scenes10": None,
}
NUM_CLASSES = {"tiny200": 200, "scenes10": 10}


def choose_classes(subset: str, wnids: Sequence[str], *, key: str, archive: Path) -> tuple[str, ...]:
    """The wnids of a subset, sorted: a class_index is a position in it.

    `wnids` are the classes the source has. Raises `InputError`, naming `key`, for an unknown subset, and naming
    `archive` for a source that lacks some of its classes.
    """
    if subset not in SUBSETS:
        raise InputError(f"{key}: got {subset!r}: expected one of {', '.join(SUBSETS)}")
    classes = SUBSETS[subset]
    if classes is None:
        if len(wnids) != NUM_CLASSES[subset]:
            raise InputError(f"{key}: got {subset!r}: it has {NUM_CLASSES[subset]} classes, {archive} has {len(wnids)}")
        return tuple(sorted(wnids))
    missing = [wnid for wnid in classes if wnid not in set(wnids)]
    if missing:
        raise InputError(f"{key}: got {subset!r}: {archive} lacks {len(missing)} of its classes: {', '.join(missing)}")
    return classes
