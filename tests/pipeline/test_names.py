"""Names in params.yaml reach neither a shell nor a path outside their folder through plain `dvc repro`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seesay.core.settings import read_yaml


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[..., Any]) -> Any:
    """A workspace with user files where bad names lead."""
    workspace = new_workspace(tracking=False)
    for folder in ("data/mine", "models/mine", "mine"):
        (workspace.root / folder).mkdir(parents=True)
        (workspace.root / folder / "file").write_text("precious")
    return workspace


def files_of(workspace: Any) -> set[str]:
    """All files but DVC's and git's own."""
    paths = (path.relative_to(workspace.root) for path in workspace.root.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if path.parts[0] not in (".dvc", ".git")}


def add_entry(workspace: Any, section: str, name: str, **changes: Any) -> None:
    """Add a copy of the section's first entry under `name`, as the first one."""
    entries = read_yaml(workspace.root / "params.yaml")[section]
    first = next(iter(entries.values()))
    workspace.change(section, {name: {**first, **changes}, **entries})


@pytest.mark.parametrize(
    ("section", "name", "changes"),
    [
        ("classifiers", "x; touch pwned", {}),
        ("classifiers", "$(touch pwned)", {}),
        ("classifiers", "`touch pwned`", {}),
        ("classifiers", "x' ; touch pwned; '", {}),
        ("classifiers", "ABSOLUTE", {}),
        ("classifiers", "..", {}),
        ("classifiers", "../mine", {}),
        ("image_datasets", "../mine", {}),
        ("image_datasets", "../mine", {"source": "../../../stages"}),
        ("image_datasets", "../../mine", {"source": "../../../stages"}),
        ("vocabularies", "../../mine/file", {"datasets": ["../../stages"]}),
        ("features", "../mine", {"dataset": "../../stages", "encoder": "../stages"}),
        ("caption_sources", "../../../mine", {}),
        ("weights", "../mine", {}),
    ],
)
def test_a_bad_name_runs_nothing_and_removes_nothing(
    workspace: Any, tmp_path: Path, section: str, name: str, changes: dict[str, Any]
) -> None:
    params = (workspace.root / "params.yaml").read_text()
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("precious")
    before = files_of(workspace)
    add_entry(workspace, section, name.replace("ABSOLUTE", str(elsewhere)), **changes)
    try:
        done = workspace.repro()
    finally:
        (workspace.root / "params.yaml").write_text(params)
    assert done.status != 0
    assert done.ran <= {"check"}
    # Some names DVC itself refuses, because their outputs would overlap.
    assert "expected a lower-case letter" in done.output or "overlap" in done.output, done.output
    assert "Traceback" not in done.output
    assert not list(workspace.root.rglob("pwned"))
    assert (elsewhere / "file").read_text() == "precious"
    assert before - files_of(workspace) <= {"data/checked"}


def test_check_runs_before_all_and_no_result_depends_on_what_it_saw(workspace: Any) -> None:
    first = workspace.repro("placeholder")
    assert first.status == 0, first.output
    assert first.output.index("Running stage 'check'") < first.output.index("Running stage 'placeholder'")
    workspace.change("report.note", "Another note.")
    again = workspace.repro("placeholder")
    assert (again.status, again.ran) == (0, {"check"})


def test_an_unknown_architecture_is_refused_before_a_proof_is_missed(workspace: Any) -> None:
    params = (workspace.root / "params.yaml").read_text()
    workspace.change("classifiers.plain_cnn.architecture.name", "plain_cn")
    done = workspace.repro()
    (workspace.root / "params.yaml").write_text(params)
    assert done.status != 0
    error = "classifiers.plain_cnn.architecture.name: got 'plain_cn': expected one of alexnet, alexnet_mini, ensemble"
    assert error in done.output
    assert "did you mean plain_cnn?" in done.output
