"""Which test images are shown for all captioners of a dataset? The same for each: best, worst, disagreeing, random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from seesay.seeding import numpy_generator

KINDS = ("best", "disagreeing", "random", "worst")


def choose_shared_cases(
    scores: Mapping[str, Mapping[int, float]],
    alternatives: Mapping[int, Sequence[float]],
    count: int,
    *,
    seed: int,
) -> list[tuple[str, int]]:
    """(kind, image id) of up to `count` images, a fourth each kind, none twice; what does not divide is random.

    `scores` are CIDEr-D by captioner and image, all of the same images. Best and worst go by the captioners' mean,
    disagreeing by the distance between the highest and the lowest. A captioner alone cannot disagree with another:
    there it is the distance among its own `alternatives`' CIDEr-D. Equals go by image id.
    """
    first = next(iter(scores.values()))
    assert all(set(of_captioner) == set(first) for of_captioner in scores.values())
    mean = {image_id: fmean(of_captioner[image_id] for of_captioner in scores.values()) for image_id in first}

    def spread(image_id: int) -> float:
        values = [of_captioner[image_id] for of_captioner in scores.values()]
        if len(scores) == 1:
            values = list(alternatives.get(image_id, values))
        return max(values) - min(values)

    count = min(count, len(first))
    fourth = count // 4
    left = set(first)
    chosen: dict[str, list[int]] = {}

    def take(kind: str, order: Sequence[int]) -> None:
        chosen[kind] = [image_id for image_id in order if image_id in left][:fourth]
        left.difference_update(chosen[kind])

    take("best", sorted(first, key=lambda image_id: (-mean[image_id], image_id)))
    take("worst", sorted(first, key=lambda image_id: (mean[image_id], image_id)))
    take("disagreeing", sorted(first, key=lambda image_id: (-spread(image_id), image_id)))
    others = sorted(left)
    drawn_at = numpy_generator(seed, "shared cases").permutation(len(others))[: count - 3 * fourth]
    chosen["random"] = [others[place] for place in np.sort(drawn_at)]
    return [(kind, image_id) for kind in KINDS for image_id in chosen[kind]]


def describe_shared_rule(chosen: Sequence[tuple[str, int]], num_captioners: int, *, seed: int) -> str:
    """How the cases were chosen, in a sentence."""
    counts = {kind: sum(other == kind for other, _ in chosen) for kind in KINDS}
    by = "mean CIDEr-D of the captioners" if num_captioners > 1 else "CIDEr-D"
    between = "captioners' CIDEr-D differs" if num_captioners > 1 else "alternatives' CIDEr-D differs"
    return (
        f"Test images, the same for every captioner: the {counts['best']} with the highest {by}, the "
        f"{counts['worst']} with the lowest, of the others the {counts['disagreeing']} where the {between} most, and "
        f"{counts['random']} drawn at random from what is left (seed {seed})."
    )
