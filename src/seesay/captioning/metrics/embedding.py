"""Do a caption and the references speak of the same things? The cosine of embeddings that no captioner has a part in.

A caption's embedding is its TF-IDF vector seen through the first dimensions of an SVD of the training captions (latent
semantic analysis: Deerwester et al., 1990): words used in the same captions come to lie close. It knows no order of
words. A cosine by itself says little, since all captions of a dataset are alike: read it beside that of captions with
other images' references.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from seesay.seeding import derive_seed, numpy_generator

MAX_DIMENSIONS = 100
MAX_CAPTIONS = 10_000
"""About as many training captions, evenly spaced, are what it is fitted on: more change little and take long."""


class CaptionEmbedding:
    """Fitted on training captions (tokens); turns captions into unit vectors."""

    def __init__(self, training: Sequence[list[str]], *, seed: int) -> None:
        some = training[:: max(1, len(training) // MAX_CAPTIONS)]
        self.tfidf = TfidfVectorizer(analyzer=_tokens, sublinear_tf=True, dtype=np.float64)
        weights = self.tfidf.fit_transform(some)
        num_dimensions = min(MAX_DIMENSIONS, weights.shape[1] - 1, weights.shape[0] - 1)
        self.svd: TruncatedSVD | None = None
        if num_dimensions >= 1:
            state = derive_seed(seed, "captions", "embedding") % 2**32
            self.svd = TruncatedSVD(num_dimensions, n_iter=4, random_state=state).fit(weights)

    def embed(self, captions: Sequence[list[str]]) -> np.ndarray:
        """Unit vectors, float64 (N, dimensions); 0 for a caption of unknown tokens only."""
        weights = self.tfidf.transform(captions)
        vectors = weights.toarray() if self.svd is None else self.svd.transform(weights)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-12)
        return unit


class EmbeddedReferences:
    """One split's references, embedded once."""

    def __init__(self, embedding: CaptionEmbedding, references: Sequence[Sequence[list[str]]]) -> None:
        self.embedding = embedding
        sizes = np.fromiter(map(len, references), np.int64, len(references))
        vectors = embedding.embed([reference for of_image in references for reference in of_image])
        image_of_row = np.repeat(np.arange(len(references)), sizes)
        self.means = np.zeros((len(references), vectors.shape[1]))
        np.add.at(self.means, image_of_row, vectors)
        self.means /= sizes[:, None]

    def cosines(self, predictions: Sequence[list[str]], *, seed: int) -> dict[str, float]:
        """`embedding_cosine`: mean cosine of captions and their images' references, in [-1, 1], higher is better.

        `embedding_cosine_random`: the same with another image's references each, drawn with `seed`: the baseline.
        A corpus of one image has no other: there the two are equal.
        """
        vectors = self.embedding.embed(predictions)
        others = other_images(len(vectors), seed=seed)
        return {
            "embedding_cosine": float((vectors * self.means).sum(axis=1).mean()),
            "embedding_cosine_random": float((vectors * self.means[others]).sum(axis=1).mean()),
        }


def other_images(num_images: int, *, seed: int) -> np.ndarray:
    """For each image another one, each once: a random cycle through all of them."""
    order = numpy_generator(seed, "captions", "random_pairs").permutation(num_images)
    others = np.empty(num_images, dtype=np.int64)
    others[order] = np.roll(order, -1)
    return others


def _tokens(caption: list[str]) -> list[str]:
    return caption
