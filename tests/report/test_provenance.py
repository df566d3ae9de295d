import subprocess

import pytest

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json
from seesay.report.runs import check_provenance, stage_instances


def git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def recorded(full_workspace):
    """A workspace in a repository with one commit, which all its run records name."""
    params, paths = full_workspace
    git(paths.root, "init", "-q", "-b", "main")
    git(paths.root, "commit", "-q", "--allow-empty", "-m", "code")
    commit = git(paths.root, "rev-parse", "HEAD")
    for stage, cell in stage_instances(params):
        record = {"started_ms": 1, "ended_ms": 2, "tags": {"git.commit": commit, "git.dirty": "false"}}
        write_json(paths.run_record(stage, cell), record)
    git(paths.root, "commit", "-q", "--allow-empty", "-m", "results")
    return params, paths


def edit(path, **tags):
    record = read_json(path)
    write_json(path, {**record, "tags": {**record["tags"], **tags}})


def test_clean_commits_in_the_history_of_head_pass(recorded):
    params, paths = recorded
    assert "run records name clean commits in the history of HEAD" in check_provenance(paths.root, params)


def test_a_record_with_uncommitted_changes_fails(recorded):
    params, paths = recorded
    edit(paths.run_record("train_classifier", "mlp"), **{"git.dirty": "true"})
    with pytest.raises(InputError, match="runs/: train_classifier@mlp: run with uncommitted changes at"):
        check_provenance(paths.root, params)


def test_a_record_of_a_commit_that_is_no_ancestor_fails(recorded):
    """A commit of a branch that was never merged, and one that git does not have."""
    params, paths = recorded
    git(paths.root, "checkout", "-q", "--orphan", "other")
    git(paths.root, "commit", "-q", "--allow-empty", "-m", "elsewhere")
    other = git(paths.root, "rev-parse", "HEAD")
    git(paths.root, "checkout", "-q", "main")
    edit(paths.run_record("report"), **{"git.commit": other})
    edit(paths.run_record("train_classifier", "mlp"), **{"git.commit": "0" * 40})
    with pytest.raises(InputError) as refused:
        check_provenance(paths.root, params)
    assert str(refused.value).splitlines() == [
        "runs/: train_classifier@mlp: run at 0000000000, which is not in the history of HEAD",
        f"runs/: report: run at {other[:10]}, which is not in the history of HEAD",
    ]


def test_a_missing_record_and_one_without_a_commit_fail(recorded):
    params, paths = recorded
    paths.run_record("report").unlink()
    edit(paths.run_record("train_classifier", "mlp"), **{"git.commit": ""})
    with pytest.raises(InputError, match=r"(?s)mlp: the run names no commit.*report: no run record"):
        check_provenance(paths.root, params)
