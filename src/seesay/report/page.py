"""The views of the results: reports/results.md, and pages that open offline.

The pages are index.html, autoencoders.html and captions.html. None of the views is a DVC output, because they show
when, on what hardware and at which commit the results were computed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2

from seesay.autoencoding.page import collect_autoencoder_figures
from seesay.captioning.page import read_shared_cases
from seesay.classification.figures.ranking import draw_costs
from seesay.core.files import write_text
from seesay.core.paths import Paths
from seesay.params.project import Params, load_params
from seesay.plotting.table import format_value
from seesay.report.data_section import read_data_reports
from seesay.report.experiments_section import collect_figures
from seesay.report.gate import read_verdict
from seesay.report.results import Results, read_results, results_markdown, results_tables
from seesay.report.runs import (
    LedgerLine,
    StageRun,
    collect_timings,
    describe_provenance,
    kept_trainings_note,
    read_runs,
)

TEMPLATES = Path(__file__).parent / "templates"

MAX_PICTURE_BYTES = 1_800_000
"""Keeps the page below two megabytes, small enough to mail."""


def render_views(results: Results, params: Params, paths: Paths, *, ledger: Iterable[LedgerLine] | None = None) -> None:
    """Write the views, each of them atomically.

    Missing figures, run records or verdicts are left out of the pages. `ledger` adds the state of each stage at the
    latest sync.
    """
    runs = read_runs(params, paths, ledger)
    timings, provenance = collect_timings(runs), describe_provenance(runs)
    title, note = params.report.title, params.report.note
    costs = draw_costs(paths.cost_figures, results.classification, core_seconds=timings.core_seconds)
    linked = [(f"{paths.cost_figures.name}/{name}", description) for name, description in costs]
    markdown = results_markdown(results, title=title, note=note, provenance=provenance, timings=timings, figures=linked)
    tables, footnotes = results_tables(results, timings)
    page = _template("index.html").render(
        title=title,
        note=note,
        provenance=provenance,
        tables=tables,
        footnotes=footnotes,
        figures=collect_figures(params, paths, results, costs=costs, max_bytes=MAX_PICTURE_BYTES),
        datasets=read_data_reports(params, paths),
        verdict=_verdict(paths),
        runs=runs,
        kept_trainings=kept_trainings_note(runs),
        has_ledger=ledger is not None,
        duration=duration,
    )
    caption_datasets = dict.fromkeys(captioner.learning.datasets[0] for captioner in params.captioners.values())
    cases = read_shared_cases(paths, list(caption_datasets))
    captions = _template("captions.html").render(title=title, provenance=provenance, datasets=cases)
    write_text(paths.results, markdown)
    autoencoders = collect_autoencoder_figures(params, paths)
    autoencoders_html = _template("autoencoders.html").render(
        title=title, provenance=provenance, experiments=[one for one in autoencoders if one.details or one.left_out]
    )
    write_text(autoencoders_page(paths), autoencoders_html)
    write_text(paths.captions_page, captions)
    write_text(paths.report, page)


def autoencoders_page(paths: Paths) -> Path:
    return paths.report.with_name("autoencoders.html")


def refresh_views(root: Path, ledger: Iterable[LedgerLine] | None = None) -> None:
    """Render the views again, from the results that the report stage collected."""
    params, paths = load_params(root), Paths(root)
    render_views(read_results(paths.results_data), params, paths, ledger=ledger)


def duration(run: StageRun) -> str:
    """Format the duration of a run: `2 h 05 min`, `3 min 20 s`, `4.1 s`; empty where it is unknown."""
    if run.seconds is None:
        return ""
    minutes, seconds = divmod(round(run.seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{run.seconds:.1f} s"


def _verdict(paths: Paths) -> dict[str, Any] | None:
    """Read the gate's verdict, failures first; None where the gate has not judged the current metrics."""
    verdict = read_verdict(paths)
    if verdict is None:
        return None
    order = {"failed": 0, "not judged": 1, "new": 2, "passed": 3}
    checks = sorted(verdict["checks"], key=lambda check: order.get(check["status"], 0))
    for check in checks:
        value = check["value"]
        check["formatted"] = format_value(check["metric"], value) if isinstance(value, int | float) else value or "–"
    return {**verdict, "checks": checks}


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # captions, labels and file names come from other people
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
