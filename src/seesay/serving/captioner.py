"""Trained captioners, with their encoders, as functions of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seesay.captioning.data.vocabulary import Vocabulary
from seesay.captioning.decoding.decode import Decoded, decode
from seesay.captioning.explain import compute_attention, grid_side, upsample
from seesay.captioning.features.components import Components
from seesay.captioning.features.encoders import (
    FeatureEncoder,
    classifier_encoder,
    encoder_of_network,
    load_feature_encoder,
)
from seesay.captioning.features.origin import CLASSIFIER
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.predict import rerank_by_consensus
from seesay.classification.networks.published import build_published, remove_head
from seesay.core.errors import InputError
from seesay.core.settings import validate
from seesay.images.pixels import ImageLike
from seesay.params.captioning import Decoding, Greedy, Nucleus
from seesay.serving.bundle import Bundle, EncoderPart
from seesay.serving.predictor import (
    BATCH_SIZE,
    Caption,
    Evidence,
    Images,
    Predictor,
    batches_of,
    on_device,
    one_or_list,
    require_positive,
)
from seesay.training.build import load_weights
from seesay.training.checkpoint import parse_checkpoint

SEED = 0
"""Seed of nucleus sampling. Equal images get equal captions."""


class Captioner(Predictor):
    """A trained captioner with its encoders: from images to captions."""

    def __init__(self, bundle: Bundle, *, device: str = "auto") -> None:
        super().__init__(bundle, device)
        config, checkpoint = bundle.config, bundle.checkpoint()
        if config.vocabulary is None or not config.encoders:
            raise InputError(f"{bundle.where}: expected a vocabulary and encoders: it is a captioner's")
        vocabulary = config.vocabulary.model_dump()
        self.vocabulary = Vocabulary(**{**vocabulary, "tokens": tuple(vocabulary["tokens"])})
        checkpoint.require_vocabulary(self.vocabulary.digest)
        described = {**(config.decoding or {}), "batch_size": BATCH_SIZE}
        self.decoding: Decoding = validate(described, Decoding, where=str(bundle.where), prefix=["decoding"])
        self.captioner = restore_captioner(checkpoint).to(self.device)
        self.encoders = [self._encoder(bundle, number, part) for number, part in enumerate(config.encoders)]
        self.components = [_components(bundle.part(f"encoders.{i}.components")) for i in range(len(config.encoders))]
        self.transforms = [part.transform.build() for part in config.encoders]
        self._references = _references(bundle.part("references"), self.vocabulary)

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a path is a sequence too: of its characters
        self, images: ImageLike, *, num_captions: int = 1, beam_size: int | None = None, explain: bool = False
    ) -> list[Caption]: ...
    @overload
    def __call__(
        self, images: Images, *, num_captions: int = 1, beam_size: int | None = None, explain: bool = False
    ) -> list[list[Caption]]: ...
    def __call__(
        self, images: Any, *, num_captions: int = 1, beam_size: int | None = None, explain: bool = False
    ) -> Any:
        """Return at most `num_captions` captions, best first, of one image or of each in a list.

        They are decoded as those behind the captioner's metrics; another `beam_size`, such as 1 for greedy decoding,
        may be chosen. `explain` adds the attention at each word, for captioners that attend to a grid. Raises
        `InputError` for what is not a readable image, and for more captions than decoding returns.
        """

        def caption(some: Images) -> list[list[Caption]]:
            pixels = [transform.batch(some) for transform in self.transforms]
            return self.predict(pixels, num_captions=num_captions, beam_size=beam_size, explain=explain)

        return one_or_list(images, caption)

    def predict(
        self,
        pixels: Sequence[np.ndarray],
        *,
        num_captions: int = 1,
        beam_size: int | None = None,
        explain: bool = False,
    ) -> list[list[Caption]]:
        """Return the same for pixels that each of `transforms` has returned, uint8 (N, S, S, 3)."""
        decoding = self._decoding(num_captions, beam_size)
        inputs = self._inputs(pixels)
        found = [of_image[:num_captions] for of_image in self._decode(inputs, decoding)]
        texts = [[self.vocabulary.decode(one.token_ids) for one in of_image] for of_image in found]
        evidence = self._evidence(pixels, inputs, found) if explain else None
        return [
            [
                Caption(" ".join(words), one.log_probability, None if evidence is None else evidence[row][rank])
                for rank, (words, one) in enumerate(zip(texts[row], of_image, strict=True))
            ]
            for row, of_image in enumerate(found)
        ]

    def decoded(self, pixels: Sequence[np.ndarray]) -> list[Decoded]:
        """Return the best caption of each image as token ids; see `predict`."""
        return [of_image[0] for of_image in self._decode(self._inputs(pixels), self.decoding)]

    def ranked(self, found: list[list[Decoded]]) -> list[list[Decoded]]:
        """Return captions by image as the captioner ranks them: as decoded, or by consensus."""
        if self._references is None:
            return found
        return rerank_by_consensus(found, self.vocabulary, self._references)

    @property
    def attends(self) -> bool:
        """Whether it attends to a grid, so that its words can be explained."""
        return self.captioner.looks_at == "grid"

    @property
    def attended(self) -> int:
        """The number of the transform whose pixels its attention is about."""
        return next(position for position, kind in self.captioner.inputs() if kind == "grid")

    @property
    def max_captions(self) -> int:
        """The most captions of an image that it decodes."""
        return _max_captions(self.decoding.model_dump())

    def _decoding(self, num_captions: int, beam_size: int | None) -> Decoding:
        require_positive("num_captions", num_captions)
        described = self.decoding.model_dump(exclude_none=True)
        if beam_size is not None:
            require_positive("beam_size", beam_size)
            penalty = described.get("length_penalty", 0.0)
            described = {"method": "beam", "beam_size": beam_size, "length_penalty": penalty}
            described |= {"max_length": self.decoding.max_length, "batch_size": BATCH_SIZE}
            if beam_size == 1:
                described = {"method": "greedy", **{key: described[key] for key in ("max_length", "batch_size")}}
        most = _max_captions(described)
        if num_captions > most:
            raise InputError(f"num_captions: got {num_captions}: expected at most {most}, the captions that it decodes")
        decoding: Decoding = validate(described, Decoding, where="decoding")
        return decoding

    @torch.inference_mode()
    def _inputs(self, pixels: Sequence[np.ndarray]) -> Tensor:
        """Return what the captioner reads, float32 (N, ...), through float16 as stored features are."""
        features = [
            [self._features(number, batch) for batch in batches_of(of_encoder)]
            for number, of_encoder in enumerate(pixels)
        ]
        parts = [
            np.concatenate([batch[kind] for batch in features[position]]) for position, kind in self.captioner.inputs()
        ]
        if len(parts) > 1:
            parts = [np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)]
        return torch.from_numpy(parts[0]).float().to(self.device)

    def _features(self, number: int, pixels: np.ndarray) -> dict[str, np.ndarray]:
        # A permuted view of (N, H, W, C) pixels is a channels-last tensor already.
        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        found = {kind: values.cpu().numpy().astype(np.float16) for kind, values in self.encoders[number](batch).items()}
        projections = self.components[number]
        return {
            kind: projections[kind].project(values).astype(np.float16) if kind in projections else values
            for kind, values in found.items()
        }

    def _decode(self, inputs: Tensor, decoding: Decoding) -> list[list[Decoded]]:
        if isinstance(decoding, Nucleus):  # samples depend on an image's position: each image is the first
            found = [decode(self.captioner, one[None], decoding, seed=SEED)[0] for one in inputs]
        else:
            found = decode(self.captioner, inputs, decoding, seed=SEED)
        is_ranked = not isinstance(decoding, Greedy) and decoding.rerank is not None
        return self.ranked(found) if is_ranked else found

    def _evidence(
        self, pixels: Sequence[np.ndarray], inputs: Tensor, found: Sequence[Sequence[Decoded]]
    ) -> list[list[tuple[Evidence, ...]]]:
        if not self.attends:
            raise InputError(f"{self.name}: explains no words: it sees one vector per image, without attention")
        rows = [row for row, of_image in enumerate(found) for _ in of_image]
        attention = compute_attention(
            self.captioner,
            lambda chosen: inputs[torch.from_numpy(chosen).to(inputs.device)].cpu().numpy(),
            rows,
            [one.token_ids for of_image in found for one in of_image],
            batch_size=BATCH_SIZE,
            device=self.device,
        )
        pictures = iter(zip(rows, attention, strict=True))
        return [[_word_evidence(pixels[self.attended], *next(pictures)) for _ in of_image] for of_image in found]

    def _encoder(self, bundle: Bundle, number: int, part: EncoderPart) -> FeatureEncoder:
        tensors = {
            name: tensor
            for name, tensor in bundle.part(f"encoders.{number}").items()
            if not name.startswith("components.")
        }
        if part.network == CLASSIFIER:
            checkpoint = parse_checkpoint(part.checkpoint, tensors, where=bundle.where)
            encoder = classifier_encoder(checkpoint, part.name, grid_size=part.grid_size)
        elif tensors:
            network = remove_head(build_published(part.network))
            load_weights(network, tensors)
            encoder = encoder_of_network(network, grid_size=part.grid_size)
        else:
            encoder = load_feature_encoder(part.network, None, grid_size=part.grid_size)
        return on_device(encoder, self.device)


def _max_captions(decoding: Mapping[str, Any]) -> int:
    return int(decoding.get("beam_size", decoding.get("num_samples", 1)))


def _components(tensors: dict[str, Tensor]) -> dict[str, Components]:
    """Return the projections by kind of features: of tensors `<kind>_mean` (D,) and `<kind>_axes` (K, D), float64."""
    kinds = [name.removesuffix("_mean") for name in tensors if name.endswith("_mean")]
    return {kind: Components(tensors[f"{kind}_mean"].numpy(), tensors[f"{kind}_axes"].numpy(), 1.0) for kind in kinds}


def _references(tensors: dict[str, Tensor], vocabulary: Vocabulary) -> CiderReferences | None:
    """Return the training captions that consensus reranking counts words in, where the bundle has them."""
    if not tensors:
        return None
    tokens, lengths, counts = (tensors[name].tolist() for name in ("tokens", "lengths", "counts"))
    words = iter([vocabulary.tokens[token] for token in tokens])
    captions = iter([[next(words) for _ in range(length)] for length in lengths])
    return CiderReferences([[next(captions) for _ in range(count)] for count in counts])


def _word_evidence(pixels: np.ndarray, row: int, attention: np.ndarray) -> tuple[Evidence, ...]:
    """Return the evidence of each word from its attention (T, L), drawn over picture `row` of (N, S, S, 3)."""
    size = pixels.shape[1]
    if not len(attention):
        return ()
    side = grid_side(attention.shape[1])
    maps = upsample(attention, side * -(-size // side))  # a multiple of the grid's side
    shown = [np.asarray(Image.fromarray(one.astype(np.float32)).resize((size, size))) for one in maps]
    return tuple(Evidence(one / one.sum(), pixels[row]) for one in shown)
