from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from seesay.captioning.features.components import fit_components, write_projected
from seesay.core.errors import InputError


def features(*shape: int) -> np.ndarray:
    random = np.random.default_rng(0)
    mixed = random.normal(size=(*shape, 6)) @ random.normal(size=(6, 6)) + random.normal(size=6)
    return mixed.astype(np.float16)


def test_components_are_those_of_scikit_learn_up_to_sign() -> None:
    rows = features(600)  # more than one block
    found = fit_components(rows, range(500), num_components=3, name="pooled features")
    expected = PCA(3, svd_solver="full").fit(rows[:500].astype(np.float64))
    np.testing.assert_allclose(found.mean, expected.mean_, atol=1e-12)
    np.testing.assert_allclose(np.abs(found.axes), np.abs(expected.components_), atol=1e-9)
    assert found.explained == pytest.approx(expected.explained_variance_ratio_.sum())


def test_a_grid_counts_each_place_as_an_example() -> None:
    grid = features(7, 4)
    found = fit_components(grid, range(7), num_components=2, name="grid features")
    flat = fit_components(grid.reshape(28, 6), range(28), num_components=2, name="grid features")
    np.testing.assert_allclose(found.axes, flat.axes, atol=1e-12)
    assert found.project(grid).shape == (7, 4, 2)


def test_the_largest_entry_of_each_axis_is_positive() -> None:
    axes = fit_components(features(50), range(50), num_components=6, name="pooled features").axes
    assert (axes[np.arange(6), np.abs(axes).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(axes @ axes.T, np.eye(6), atol=1e-12)


def test_all_components_keep_everything() -> None:
    rows = features(50)
    found = fit_components(rows, range(50), num_components=6, name="pooled features")
    assert found.explained == pytest.approx(1.0)
    np.testing.assert_allclose(found.project(rows) @ found.axes + found.mean, rows, atol=1e-5)


def test_variance_is_told_by_hand() -> None:
    # Variances 4 and 1 along two axes: one component keeps 4 / 5.
    rows = np.array([[2.0, 0.0], [-2.0, 0.0], [2.0, 0.0], [-2.0, 0.0]]) + np.array([[0, 1], [0, 1], [0, -1], [0, -1]])
    found = fit_components(rows.astype(np.float16), range(4), num_components=1, name="pooled features")
    assert found.axes.tolist() == [[1.0, 0.0]]
    assert found.explained == pytest.approx(0.8)


@pytest.mark.parametrize(("num_rows", "num_components", "most"), [(50, 7, 6), (4, 4, 3)])
def test_more_components_than_there_can_be_are_refused(num_rows: int, num_components: int, most: int) -> None:
    with pytest.raises(InputError, match=f"num_components: got {num_components}: expected at most {most}"):
        fit_components(features(num_rows), range(num_rows), num_components=num_components, name="pooled features")


def test_a_projection_too_large_for_float16_is_refused(tmp_path: Path) -> None:
    rows = np.full((2, 4), 60000.0, dtype=np.float16)
    rows[1] *= -1  # along (1, 1, 1, 1) / 2 the rows are 120,000 from their mean
    found = fit_components(rows, [0, 1], num_components=1, name="pooled features")
    with pytest.raises(InputError, match=r"pooled features: .* too large for float16"):
        write_projected(rows, found, tmp_path / "pooled.npy")
