"""What captions that look at no image score: the floors a captioner must clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seesay.evaluation.cider import CiderReferences
from seesay.seeding import numpy_generator

MAX_CAPTIONS, MAX_CANDIDATES = 10_000, 200
"""Of the most frequent distinct training captions, and of those, how many are scored exactly: bounds on time only."""


def best_constant_caption(training: Sequence[list[str]], val: CiderReferences) -> list[str]:
    """The training caption (tokens) that has the highest CIDEr-D when it captions every val image.

    Chosen on val, never on test. Candidates are the `MAX_CANDIDATES` captions that agree best with the val references
    among the `MAX_CAPTIONS` most frequent ones.
    """
    frequent = Counter(tuple(tokens) for tokens in training).most_common(MAX_CAPTIONS)
    captions = [list(tokens) for tokens, _ in frequent]
    candidates = [captions[position] for position in val.rank_constants(captions, limit=MAX_CANDIDATES)]
    return max(candidates, key=lambda tokens: (float(val.score_constant(tokens).mean()), tokens))


def random_captions(training: Sequence[list[str]], *, num_images: int, seed: int) -> list[list[str]]:
    """One training caption (tokens) for each image, drawn with replacement."""
    drawn = numpy_generator(seed, "captions", "random").integers(len(training), size=num_images)
    return [training[position] for position in drawn]
