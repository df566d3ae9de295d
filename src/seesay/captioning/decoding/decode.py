"""Decoding of a whole split by any method; sampling and greedy decoding for training."""

from __future__ import annotations

from torch import Tensor

from seesay.captioning.decoding.beam import beam_search
from seesay.captioning.decoding.hypotheses import Decoded
from seesay.captioning.decoding.sampling import greedy_search, greedy_tokens, nucleus_sampling, sample_captions
from seesay.captioning.networks.base import Captioner
from seesay.params.captioning import Beam, Decoding, DiverseBeam, Greedy, Nucleus

__all__ = ["Decoded", "decode", "greedy_search", "greedy_tokens", "sample_captions"]


def decode(
    captioner: Captioner, features: Tensor, decoding: Decoding, *, seed: int, first_image: int = 0
) -> list[list[Decoded]]:
    """Return the distinct captions of each of `features` (N, D) or (N, L, D), best first.

    Greedy decoding returns one, beam search at most `beam_size`, nucleus sampling at most `num_samples`. Images are
    decoded `batch_size` at a time, in float32 unless under autocast. An image's captions depend on its features, and in
    nucleus sampling on `seed` and its position in `features`, of which the first is image `first_image`, but not on its
    batch. `captioner` is in evaluation mode,
    on the device of `features`.
    """
    captions: list[list[Decoded]] = []
    for first in range(0, len(features), decoding.batch_size):
        batch = features[first : first + decoding.batch_size].float()
        captions += _decode_batch(captioner, batch, decoding, seed=seed, first_image=first_image + first)
    return captions


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
