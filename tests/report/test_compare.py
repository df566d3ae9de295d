import math
import subprocess

import pytest

from seesay.cli import main
from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.report.compare import (
    committed_metrics,
    compare_metrics,
    compare_refs,
    comparison_markdown,
    resolve_commit,
    standard_error,
)

CELL = "evaluate_classifier/resnet9"


def git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def with_interval(key, value, half):
    return {key: value, f"{key}_low": value - half, f"{key}_high": value + half}


def compared(old, new, cell=CELL):
    return compare_metrics({cell: old}, {cell: new}, before="a", after="b")


@pytest.fixture
def repository(tmp_path):
    """Two commits: top-1 rises from 0.60 to 0.70, each ± 0.02; a captioner is new in the second."""
    git(tmp_path, "init", "-q")
    for value in (0.60, 0.70):
        write_json(tmp_path / f"metrics/{CELL}.json", with_interval("test/top1", value, 0.02))
        if value == 0.70:
            write_json(tmp_path / "metrics/score_captions/lstm.json", {"test/cider_d": 0.5})
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", str(value))
    return tmp_path


def test_the_standard_error_comes_from_the_interval_or_the_seeds():
    metrics = {**with_interval("test/top1", 0.7, 0.0196), "seeds/num": 4, "seeds/test/top1_mean": 0.7}
    metrics["seeds/test/top1_std"] = 0.02
    assert standard_error("test/top1", metrics) == pytest.approx(0.01, rel=1e-4)
    assert standard_error("seeds/test/top1_mean", metrics) == pytest.approx(0.01)  # 0.02 / sqrt(4)
    assert standard_error("test/ece", metrics) is None


def test_a_change_is_beyond_noise_where_it_exceeds_both_errors():
    """Two intervals of ± 0.03 and ± 0.04 have a difference of ± 0.05."""
    old = with_interval("test/top1", 0.60, 0.03)
    within, beyond = (compared(old, with_interval("test/top1", 0.60 + change, 0.04)) for change in (0.049, 0.051))
    assert within.changes[0].noise == pytest.approx(0.05)
    assert (within.moved, len(within.within_noise)) == ([], 1)
    assert [one.metric for one in beyond.moved] == [f"{CELL}:test/top1"]
    assert beyond.moved[0].verdict == "better"


def test_bounds_of_intervals_are_not_metrics_of_their_own():
    assert len(compared(with_interval("test/top1", 0.6, 0.01), with_interval("test/top1", 0.7, 0.02)).changes) == 1


@pytest.mark.parametrize(
    ("key", "verdict"),
    [("test/top1", "better"), ("test/loss", "worse"), ("val/perplexity", "worse"), ("floor_random/cider_d", "changed")],
)
def test_a_rise_is_better_or_worse_as_the_metric_says(key, verdict):
    assert compared({key: 0.1}, {key: 0.2}).changes[0].verdict == verdict


@pytest.mark.parametrize("value", [math.nan, math.inf, "0.7", None, True])
def test_what_is_no_finite_number_is_not_compared(value):
    assert compared({"test/top1": 0.5}, {"test/top1": value}).changes == ()


def test_a_ref_is_compared_with_the_workspace_or_with_another(repository):
    first, second = compare_refs(repository, "HEAD~1"), compare_refs(repository, "HEAD~1", "HEAD")
    assert first.moved == second.moved
    assert first.moved[0].texts == ("60 %", "70 %", "+10 points", "±2.83 points")
    assert (first.only_before, first.only_after) == ((), ("score_captions/lstm",))
    assert (first.after, second.after[:6]) == ("workspace", "HEAD (")


def test_committed_metrics_are_those_of_the_folder(repository, tmp_path):
    """A workspace may be a folder of the repository, and other files do not count."""
    inner = tmp_path / "inner"
    write_json(inner / "metrics/gate.json", {"a": 1})
    (inner / "metrics/broken.json").write_text("{")
    (inner / "metrics/history.csv").write_text("step\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "inner")
    assert committed_metrics(inner, resolve_commit(inner, "HEAD")) == {"gate": {"a": 1}}


def test_an_unknown_ref_is_an_error(repository):
    with pytest.raises(InputError, match="no ref 'nowhere'"):
        compare_refs(repository, "nowhere")


def test_the_command_prints_markdown_and_writes_it_and_a_page(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    with pytest.raises(SystemExit) as ended:
        main(["compare", "HEAD~1", "HEAD", "--out", "out"])
    assert ended.value.code == 0
    row = f"| ▲ better | `{CELL}:test/top1` | 60 % | 70 % | +10 points | ±2.83 points |"
    printed, written = capsys.readouterr().out, (repository / "out/compare.md").read_text()
    assert row in printed
    assert row in written
    assert "Only after: `score_captions/lstm`." in written
    page = (repository / "out/compare.html").read_text()
    assert "+10 points" in page
    assert "1 metric moved beyond noise (1 better)" in page


def test_equal_metrics_are_counted_and_the_markdown_says_what_noise_is(repository):
    text = comparison_markdown(compare_refs(repository, "HEAD"))
    assert "0 metrics moved beyond noise; 0 changed within noise" in text
    assert "2 are equal." in text
    assert "Noise: the standard error of a difference" in text
