"""Similarity in topic of captions and references: the cosine of embeddings that no captioner is involved in.

A caption's embedding is its TF-IDF vector, projected on the first dimensions of an SVD of the training captions (latent
semantic analysis: Deerwester et al., 1990). Words used in the same captions get similar vectors; word order is ignored.
All captions of a dataset are similar, so compare the cosine with that of captions and other images' references.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from seesay.arrays import one_blas_thread
from seesay.seeding import derive_seed, numpy_generator

MAX_DIMENSIONS = 100
MAX_CAPTIONS = 10_000
"""About the number of evenly spaced training captions to fit on: more would change little and take long."""


class CaptionEmbedding:
    """An embedding of captions as unit vectors, fitted on training captions (tokens)."""

    @one_blas_thread()
    def __init__(self, training: Sequence[list[str]], *, seed: int) -> None:
        sample = training[:: max(1, len(training) // MAX_CAPTIONS)]
        self.tfidf = TfidfVectorizer(analyzer=_tokens, sublinear_tf=True, dtype=np.float64)
        weights = self.tfidf.fit_transform(sample)
        num_dimensions = min(MAX_DIMENSIONS, weights.shape[1] - 1, weights.shape[0] - 1)
        self.svd: TruncatedSVD | None = None
        if num_dimensions >= 1:
            state = derive_seed(seed, "captions", "embedding") % 2**32
            self.svd = TruncatedSVD(num_dimensions, n_iter=4, random_state=state).fit(weights)

    def embed(self, captions: Sequence[list[str]]) -> np.ndarray:
        """Return unit vectors, float64 (N, dimensions); 0 for a caption without known tokens."""
        weights = self.tfidf.transform(captions)
        vectors = weights.toarray() if self.svd is None else self.svd.transform(weights)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-12)
        return unit


class EmbeddedReferences:
    """The mean embedding of each image's references, computed once."""

    def __init__(self, embedding: CaptionEmbedding, references: Sequence[Sequence[list[str]]]) -> None:
        self.embedding = embedding
        sizes = np.fromiter(map(len, references), np.int64, len(references))
        vectors = embedding.embed([reference for of_image in references for reference in of_image])
        image_of_row = np.repeat(np.arange(len(references)), sizes)
        self.means = np.zeros((len(references), vectors.shape[1]))
        np.add.at(self.means, image_of_row, vectors)
        self.means /= sizes[:, None]

    def cosines(self, predictions: Sequence[list[str]], *, seed: int) -> dict[str, float]:
        """Return the mean cosines of captions with references, in [-1, 1], higher is better.

        `embedding_cosine` is with the references of the same image. `embedding_cosine_random`, the baseline, is with
        those of another image, chosen with `seed`. With a single image the two are equal.
        """
        vectors = self.embedding.embed(predictions)
        others = other_images(len(vectors), seed=seed)
        return {
            "embedding_cosine": float((vectors * self.means).sum(axis=1).mean()),
            "embedding_cosine_random": float((vectors * self.means[others]).sum(axis=1).mean()),
        }


def other_images(num_images: int, *, seed: int) -> np.ndarray:
    """Return another image for each image, each of them once: a random cycle through all images."""
    order = numpy_generator(seed, "captions", "random_pairs").permutation(num_images)
    others = np.empty(num_images, dtype=np.int64)
    others[order] = np.roll(order, -1)
    return others


def _tokens(caption: list[str]) -> list[str]:
    return caption
