"""How a composed scene is put into words: five different captions from a small grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

NUM_CAPTIONS = 5
NUMBERS = {2: "two", 3: "three"}


@dataclass(frozen=True)
class Thing:
    """One thing of a scene: what it is, how large in words, and the pixel of its centre."""

    name: str
    colour: str
    size: str
    x: float
    y: float


def write_captions(things: Sequence[Thing], place: str, *, rng: np.random.Generator) -> list[str]:
    """Five different captions of a scene of two or three things; `place` is a phrase like "in the snow"."""
    captions: list[str] = []
    while len(captions) < NUM_CAPTIONS:
        caption = _caption(things, place, rng)
        if caption not in captions:
            captions.append(caption)
    return captions


def relation(first: Thing, second: Thing) -> str:
    """Where `first` is, seen from `second`, along the axis on which they are further apart."""
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
