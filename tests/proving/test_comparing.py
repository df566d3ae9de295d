"""Two proofs agree if all their numbers agree, and an unchanged proof keeps its bytes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seesay.proving.numbers import rounded, sums_of
from seesay.proving.running import TOLERANCE, as_text, moves, update

OLD: dict[str, Any] = {
    "case": {
        "epochs": {"train/loss": [1.5, 1.25]},
        "metrics": {"num_epochs": 2, "val/loss": 1.25},
        "sums": {"weight": [6, 0.01, 12.0]},
    }
}


def changed(**of_case: Any) -> dict[str, Any]:
    return {"case": {**OLD["case"], **of_case}}


def largest(new: dict[str, Any]) -> float:
    return max(move.size for move in moves(OLD, new))


def test_a_number_moves_by_its_difference_relative_to_the_larger() -> None:
    assert largest(OLD) == 0.0
    assert largest(changed(epochs={"train/loss": [1.5, 1.0]})) == pytest.approx(0.2)  # 0.25 of 1.25


def test_numbers_near_zero_are_compared_as_if_they_were_larger() -> None:
    (move,) = moves({"bias": 1e-9}, {"bias": -1e-9})
    assert move.size == pytest.approx(2e-6)  # 2e-9 of SMALLEST


def test_a_sum_is_as_exact_as_its_norm_is_large() -> None:
    assert largest(changed(sums={"weight": [6, 0.022, 12.0]})) == pytest.approx(0.001)  # 0.012 of 12
    assert largest(changed(sums={"weight": [6, 0.01, 12.012]})) == pytest.approx(0.001, rel=0.01)


def test_counts_agree_exactly_or_not_at_all() -> None:
    assert math.isinf(largest(changed(metrics={"num_epochs": 3, "val/loss": 1.25})))
    assert math.isinf(largest(changed(sums={"weight": [7, 0.01, 12.0]})))
    assert math.isinf(largest(changed(metrics={"num_epochs": 2.0, "val/loss": 1.25})))  # no longer a count


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_agrees_even_with_itself(value: float) -> None:
    assert [move.size for move in moves({"loss": value}, {"loss": value})] == [math.inf]


@pytest.mark.parametrize(
    "new",
    [
        {},
        {"case": OLD["case"], "another": OLD["case"]},
        changed(epochs={"train/loss": [1.5, 1.25, 1.0]}),
        changed(metrics={"num_epochs": 2}),
        changed(sums={"renamed": [6, 0.01, 12.0]}),
        changed(sums=[6, 0.01, 12.0]),
    ],
)
def test_another_structure_is_a_move(new: dict[str, Any]) -> None:
    assert math.isinf(largest(new))


def test_within_the_tolerance_the_file_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "proofs/kind/name.json"
    assert update(path, OLD).endswith("name.json: new")
    before = path.read_bytes(), path.stat().st_mtime_ns
    message = update(path, changed(metrics={"num_epochs": 2, "val/loss": 1.25 * (1 + TOLERANCE / 2)}))
    assert "unchanged" in message
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_beyond_the_tolerance_the_file_is_written_anew_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    update(path, OLD)
    new = changed(metrics={"num_epochs": 2, "val/loss": 1.25 * (1 + 2 * TOLERANCE)}, epochs={"train/loss": [3.0] * 2})
    message = update(path, new)
    assert len(message.splitlines()) == 1
    assert (
        "moved: case/epochs/train/loss[1] (0.58), case/epochs/train/loss[0] (0.5), case/metrics/val/loss (" in message
    )
    assert json.loads(path.read_text()) == new


def test_of_many_moved_numbers_the_first_few_are_named(tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    update(path, {str(number): 1.0 for number in range(9)})
    assert update(path, {str(number): 2.0 for number in range(9)}).endswith("3 (0.5) and 5 more")


def test_a_damaged_proof_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "name.json"
    path.write_text('{"case": ')
    assert "not valid JSON" in update(path, OLD)
    assert json.loads(path.read_text()) == OLD


def test_a_proof_is_json_of_sorted_keys_with_a_line_for_each_list() -> None:
    text = as_text({"b": {str(number): [number] * 30 for number in range(2)}, "a": 1.0})
    assert json.loads(text) == {"a": 1.0, "b": {"0": [0] * 30, "1": [1] * 30}}
    assert [line.split(":")[0].strip() for line in text.splitlines()] == ["{", '"a"', '"b"', '"0"', '"1"', "}", "}"]


def test_sums_are_of_all_values_in_float64_and_rounded_to_float32s_digits() -> None:
    assert sums_of([np.array([[3.0], [0.0]]), np.array([4.0])]) == [3, 7.0, 5.0]
    assert rounded(1.23456789) == 1.234568
