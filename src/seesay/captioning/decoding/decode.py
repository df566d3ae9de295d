"""How captions are said: one engine for every way of decoding, and for drawing captions to learn from."""

from __future__ import annotations

from torch import Tensor

from seesay.captioning.decoding.beam import beam_search
from seesay.captioning.decoding.greedy import greedy_search, greedy_tokens
from seesay.captioning.decoding.hypotheses import Decoded
from seesay.captioning.decoding.sampling import nucleus_sampling, sample_captions
from seesay.captioning.networks.base import Captioner
from seesay.params.captioning import Beam, Decoding, DiverseBeam, Greedy, Nucleus

__all__ = ["Decoded", "decode", "greedy_search", "greedy_tokens", "sample_captions"]


def decode(captioner: Captioner, features: Tensor, decoding: Decoding, *, seed: int) -> list[list[Decoded]]:
    """The captions of each of `features` (N, D) or (N, L, D), best first, no two alike.

    Greedy decoding gives one, a beam at most `beam_size`, a nucleus at most `num_samples`. Images are decoded
    `batch_size` at a time, in float32 unless under autocast; what is said of one depends on its features, and with a
    nucleus on `seed` and its position in `features`, not on its batch. `captioner` is in evaluation mode, on the
    device of `features`.
    """
    found: list[list[Decoded]] = []
    for first in range(0, len(features), decoding.batch_size):
        batch = features[first : first + decoding.batch_size].float()
        found += _decode_batch(captioner, batch, decoding, seed=seed, first_image=first)
    return found


def _decode_batch(
    captioner: Captioner, batch: Tensor, decoding: Decoding, *, seed: int, first_image: int
) -> list[list[Decoded]]:
    match decoding:
        case Greedy():
            return [[caption] for caption in greedy_search(captioner, batch, max_length=decoding.max_length)]
        case Beam() | DiverseBeam():
            return beam_search(
                captioner,
                batch,
                beam_size=decoding.beam_size,
                length_penalty=decoding.length_penalty,
                max_length=decoding.max_length,
                num_groups=decoding.num_groups if isinstance(decoding, DiverseBeam) else 1,
                diversity_penalty=decoding.diversity_penalty if isinstance(decoding, DiverseBeam) else 0.0,
            )
        case Nucleus():
            return nucleus_sampling(
                captioner,
                batch,
                top_p=decoding.top_p,
                temperature=decoding.temperature,
                num_samples=decoding.num_samples,
                max_length=decoding.max_length,
                seed=seed,
                first_image=first_image,
            )
