"""Which training images are left out because the same picture is elsewhere, by content and not by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

RULE = (
    "Two images are the same when their decoded pixels (RGB, at the dataset's image size) have the same sha256. "
    "The test split is the official one and is never changed. "
    "A training image that is the same as a test image is left out. "
    "A picture that sits in two or more training classes is left out of all of them. "
    "Of a picture that sits in one training class more than once, the first (by file number) is kept. "
    "Only the classes of the subset are compared."
)


@dataclass(frozen=True)
class Example:
    """One image by name: its official split (`train` or `test`), its class and what is in it."""

    member: str
    split: str
    wnid: str
    content: str


@dataclass(frozen=True)
class LeftOut:
    member: str
    wnid: str
    reason: str
    same_as: tuple[str, ...]


def leave_out(examples: Sequence[Example]) -> list[LeftOut]:
    """The training images `RULE` leaves out, in the order given."""
    groups = _groups(examples)
    left_out = []
    for example in examples:
        if example.split != "train" or len(groups[example.content]) == 1:
            continue
        others = [other for other in groups[example.content] if other is not example]
        tests = [other for other in others if other.split == "test"]
        strangers = [other for other in others if other.wnid != example.wnid]
        first = groups[example.content][0]
        if tests:
            reason, same_as = "in the test split", tests
        elif strangers:
            reason, same_as = "in another training class", strangers
        elif first is not example:
            reason, same_as = "a copy within its class", [first]
        else:
            continue
        left_out.append(LeftOut(example.member, example.wnid, reason, tuple(other.member for other in same_as)))
    return left_out


def repeated(examples: Sequence[Example], split: str) -> list[list[str]]:
    """Names of the images of one official split that are the same picture, group by group."""
    groups = _groups([example for example in examples if example.split == split])
    return [[example.member for example in group] for group in groups.values() if len(group) > 1]


def _groups(examples: Sequence[Example]) -> dict[str, list[Example]]:
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.content].append(example)
    return groups
