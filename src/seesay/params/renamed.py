"""Keys that params.yaml once had, and what to write in their place."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple


class Renamed(NamedTuple):
    """`key` is dotted, `*` any entry; `successor` the key beside it that has taken its place, "" for none."""

    key: str
    successor: str
    advice: str


RENAMED = (
    Renamed("classifiers.*.initial_weights", "start", "write start: weights/<name>, or start: scratch"),
    Renamed("classifiers.*.built_on", "start", "write start: classifiers/<name>, or start: scratch"),
    Renamed("autoencoders.*.built_on", "start", "write start: classifiers/<name>, or start: scratch"),
    Renamed("captioners.*.learning.built_on", "start", "write start: captioners/<name>, or start: scratch"),
    Renamed("captioners.*.learning.dataset", "datasets", "write datasets: [<name>]"),
    Renamed("captioners.*.learning.also_dataset", "datasets", "write datasets: [<first>, <second>]"),
    Renamed("captioners.*.learning.also_features", "features", "write features: [<of the first>, <of the second>]"),
    Renamed("vocabularies.*.dataset", "datasets", "write datasets: [<name>]"),
    Renamed("vocabularies.*.also_dataset", "datasets", "write datasets: [<first>, <second>]"),
    Renamed("encoders", "weights", "write weights"),
    Renamed("weights.*.weights", "", "write its url and checksum beside architecture, or neither"),
    Renamed("features.*.classifier", "encoder", "write encoder: classifiers/<name>"),
    Renamed("features.*.finetuned", "encoder", "write encoder: finetuned/<name>"),
    Renamed("features.*.network", "", "leave it out: the encoder's folder says it"),
    Renamed("finetuned_encoders", "finetuned", "write finetuned"),
    Renamed("finetuned.*.classifier", "encoder", "write encoder: classifiers/<name>"),
)


def find_renamed(key: str) -> Renamed | None:
    """The entry of `RENAMED` for a dotted key that is no longer known."""
    depth = key.count(".")
    return next((one for one in RENAMED if one.key.count(".") == depth and fnmatchcase(key, one.key)), None)


def is_successor(missing: str, unknown: Sequence[str]) -> bool:
    """Whether a `missing` key is to take the place of one of the `unknown` ones, whose advice says so already."""
    where, _, name = missing.rpartition(".")
    renamed = [find_renamed(key) for key in unknown if key.rpartition(".")[0] == where]
    return any(one is not None and one.successor == name for one in renamed)
