"""Linear algebra gives the same bits, however many threads a machine or its environment offers."""

from collections.abc import Callable

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from seesay.arrays import one_blas_thread
from seesay.autoencoding.figures.reconstructions import principal_plane
from seesay.captioning.features.components import fit_components
from seesay.captioning.metrics.embedding import CaptionEmbedding


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == before


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def embedded() -> np.ndarray:
    words = np.array([f"w{number}" for number in range(400)])
    captions = [words[np.random.default_rng(seed).zipf(1.3, 10) % 400].tolist() for seed in range(1500)]
    return CaptionEmbedding(captions, seed=0).embed(captions[:50])


@pytest.mark.parametrize(
    "compute",
    [
        embedded,
        lambda: principal_plane(normal(600, 700))[0],
        lambda: fit_components(normal(600, 400), range(600), num_components=40, name="x").axes,
    ],
)
def test_results_do_not_depend_on_the_number_of_threads(compute: Callable[[], np.ndarray]) -> None:
    results = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads, user_api="blas"):
            results.append(compute().tobytes())
    assert len(set(results)) == 1
