"""What does a person look at? reports/results.md and reports/index.html, one page that opens offline.

Both are views, not DVC outputs: they say when, on what and from which commit the results were made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from seesay.files import write_text
from seesay.params.project import Params, load_params
from seesay.paths import Paths
from seesay.reporting.data_section import read_data_reports
from seesay.reporting.embedding import embedded
from seesay.reporting.gate import read_verdict
from seesay.reporting.numbers import show_value
from seesay.reporting.results import Results, read_results, read_stage_json
from seesay.reporting.runs import LedgerLine, StageRun, provenance, read_runs, throughput
from seesay.reporting.tables import results_markdown, results_tables

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Picture:
    """`source` is a data URI; a plot's colours may be inverted in the dark, a photograph's may not."""

    source: Markup
    description: str
    is_plot: bool


@dataclass(frozen=True)
class Example:
    """One case of a caption panel."""

    kind: str
    picture: Markup | None
    prediction: str
    references: tuple[str, ...]
    cider_d: float


@dataclass(frozen=True)
class CellFigures:
    """One experiment's figures; captioners have examples and the rule they were chosen by."""

    cell: str
    task: str
    pictures: tuple[Picture, ...]
    rule: str = ""
    examples: tuple[Example, ...] = ()


def render_views(results: Results, params: Params, paths: Paths, *, ledger: Iterable[LedgerLine] | None = None) -> None:
    """Writes both views; each lands whole or not at all.

    What is missing among figures, run records and verdict is left out of the page: it shows what there is. `ledger`
    adds what the latest sync found of each stage.
    """
    runs = read_runs(params, paths, ledger)
    speeds, made = throughput(runs), provenance(runs)
    title, note = params.report.title, params.report.note
    markdown = results_markdown(results, title=title, note=note, provenance=made, throughput=speeds)
    tables, footnotes = results_tables(results, speeds)
    page = _template().render(
        title=title,
        note=note,
        provenance=made,
        tables=tables,
        footnotes=footnotes,
        comparison=_pictures(paths.figures("compare_classifiers"), [("accuracy_cost.svg", "Accuracy against cost")]),
        cells=_all_figures(params, paths),
        datasets=read_data_reports(params, paths),
        verdict=_verdict(paths),
        runs=runs,
        has_ledger=ledger is not None,
        duration=duration,
    )
    write_text(paths.results, markdown)
    write_text(paths.report, page)


def refresh_views(root: Path, ledger: Iterable[LedgerLine] | None = None) -> None:
    """Renders both views anew from the results the report stage has collected."""
    params, paths = load_params(root), Paths(root)
    lines = None if ledger is None else list(ledger)
    render_views(read_results(paths.results_data), params, paths, ledger=lines)


def duration(run: StageRun) -> str:
    """`2 h 05 min`, `3 min 20 s`, `4.1 s`; empty where it is not known."""
    if run.seconds is None:
        return ""
    minutes, seconds = divmod(round(run.seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{run.seconds:.1f} s"


def _all_figures(params: Params, paths: Paths) -> list[CellFigures]:
    curves = ("curves.svg", "Training and validation curves, the best epoch marked")
    wanted: list[tuple[str, str, Iterable[str], list[tuple[str, str]]]] = [
        (
            "classifier",
            "evaluate_classifier",
            params.classifiers,
            [
                curves,
                ("confusion.svg", "Confusion matrix on test, in percent of each true class"),
                ("predictions.webp", "Test images with predicted and true classes"),
            ],
        ),
        (
            "autoencoder",
            "evaluate_autoencoder",
            params.autoencoders,
            [curves, ("reconstructions.webp", "Test images, their reconstructions and the error")],
        ),
        (
            "captioner",
            "score_captions",
            params.captioners,
            [curves, ("scores.svg", "CIDEr-D of the model beside floors, shuffled images and people")],
        ),
    ]
    return [
        _cell_figures(task, cell, paths.figures(stage, cell), names)
        for task, stage, cells, names in wanted
        for cell in cells
    ]


def _cell_figures(task: str, cell: str, folder: Path, names: list[tuple[str, str]]) -> CellFigures:
    panel = folder / "captions.json"
    content: Any = read_stage_json(panel, "score_captions", cell) if panel.is_file() else {}
    examples = tuple(
        Example(
            kind=str(case["kind"]),
            picture=embedded(folder / Path(str(case["image"])).name),
            prediction=str(case["prediction"]),
            references=tuple(map(str, case["references"])),
            cider_d=float(case["cider_d"]),
        )
        for case in content.get("cases", [])
    )
    return CellFigures(cell, task, _pictures(folder, names), str(content.get("rule", "")), examples)


def _pictures(folder: Path, names: list[tuple[str, str]]) -> tuple[Picture, ...]:
    found = ((embedded(folder / name), description, name.endswith(".svg")) for name, description in names)
    return tuple(Picture(source, description, plot) for source, description, plot in found if source is not None)


def _verdict(paths: Paths) -> dict[str, Any] | None:
    """The gate's verdict, failures first; None before the gate has judged these very numbers."""
    verdict = read_verdict(paths)
    if verdict is None:
        return None
    order = {"failed": 0, "not judged": 1, "new": 2, "passed": 3}
    checks = sorted(verdict["checks"], key=lambda check: order.get(check["status"], 0))
    for check in checks:
        value = check["value"]
        check["shown"] = show_value(check["metric"], value) if isinstance(value, int | float) else value or "–"
    return {**verdict, "checks": checks}


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # captions, class names and file names are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html")
