"""A name from params.yaml never leads a path out of its folder."""

import inspect
from pathlib import Path

import pytest

from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import check_names

BAD = ["..", "../mine", "/etc", "x; touch y", "$(touch y)", "`touch y`", "it's", "a b", "A", "1", "", ".", "a\n"]
WITH_NAMES = [
    (name, [p for p in inspect.signature(method).parameters if p in ("source", "dataset", "name", "cell")])
    for name, method in inspect.getmembers(Paths, inspect.isfunction)
    if not name.startswith("_") and len(inspect.signature(method).parameters) > 1
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("method", "names"), WITH_NAMES, ids=[name for name, _ in WITH_NAMES])
def test_no_path_is_made_of_a_name_that_could_leave_its_folder(method: str, names: list[str], bad: str) -> None:
    """`table` has a name of its own beside the experiment's, which the code gives."""
    call = getattr(Paths(Path("root")), method)
    given = {p: "evaluate_classifier" for p in inspect.signature(call).parameters if p == "stage"}
    given |= {p: 0 for p in inspect.signature(call).parameters if p == "index"}
    assert names
    with pytest.raises(InputError, match="expected a lower-case letter"):
        call(**given, **dict.fromkeys(names, bad))


def test_every_method_with_a_name_is_tested() -> None:
    assert len(WITH_NAMES) >= 20


@pytest.mark.parametrize("bad", BAD)
def test_an_entry_with_such_a_name_is_refused_with_its_section(bad: str) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: classifiers: got the name "):
        check_names({"seed": 0, "classifiers": {"mlp": {}, bad: {}}}, where="params.yaml")


def test_names_of_plain_settings_are_no_concern() -> None:
    check_names({"runtime": {"Num-Threads": 1}, "seed": 0, "classifiers": {"mlp": {}}, "nothing": None}, where="x")
