"""How often each run of one to four tokens is in a caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MAX_ORDER = 4

NGram = tuple[str, ...]


def count_ngrams(tokens: Sequence[str]) -> Counter[NGram]:
    """Counts of all n-grams of order 1 to 4."""
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(tokens) - order + 1)
    )
