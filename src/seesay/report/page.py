"""What does a person look at? reports/results.md, and pages that open offline.

Those are index.html, autoencoders.html and captions.html. All are views, not DVC outputs: they say when, on what and
from which commit the results were made.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2

from seesay.autoencoding.page import collect_autoencoders
from seesay.captioning.page import read_shared_cases
from seesay.core.files import write_text
from seesay.core.paths import Paths
from seesay.params.cross_checks import load_params
from seesay.params.project import Params
from seesay.plotting.numbers import show_value
from seesay.report.data_section import read_data_reports
from seesay.report.experiments_section import collect_figures
from seesay.report.gate import read_verdict
from seesay.report.results import Results, read_results
from seesay.report.runs import LedgerLine, StageRun, measured, provenance, read_runs
from seesay.report.tables import results_markdown, results_tables

TEMPLATES = Path(__file__).parent / "templates"

MAX_PICTURE_BYTES = 1_800_000
"""So that the page stays below two megabytes: small enough to mail."""


def render_views(results: Results, params: Params, paths: Paths, *, ledger: Iterable[LedgerLine] | None = None) -> None:
    """Writes the views; each lands whole or not at all.

    What is missing among figures, run records and verdict is left out of the pages: they show what there is. `ledger`
    adds what the latest sync found of each stage.
    """
    runs = read_runs(params, paths, ledger)
    speeds, made = measured(runs), provenance(runs)
    title, note = params.report.title, params.report.note
    markdown = results_markdown(results, title=title, note=note, provenance=made, measured=speeds)
    tables, footnotes = results_tables(results, speeds)
    page = _template("index.html").render(
        title=title,
        note=note,
        provenance=made,
        tables=tables,
        footnotes=footnotes,
        figures=collect_figures(params, paths, results, max_bytes=MAX_PICTURE_BYTES),
        datasets=read_data_reports(params, paths),
        verdict=_verdict(paths),
        runs=runs,
        has_ledger=ledger is not None,
        duration=duration,
    )
    captioned = dict.fromkeys(captioner.learning.datasets[0] for captioner in params.captioners.values())
    cases = read_shared_cases(paths, list(captioned))
    captions = _template("captions.html").render(title=title, provenance=made, datasets=cases)
    write_text(paths.results, markdown)
    autoencoders = collect_autoencoders(params, paths)
    drawings = _template("autoencoders.html").render(
        title=title, provenance=made, cells=[one for one in autoencoders if one.details or one.left_out]
    )
    write_text(autoencoders_page(paths), drawings)
    write_text(paths.captions_page, captions)
    write_text(paths.report, page)


def autoencoders_page(paths: Paths) -> Path:
    return paths.report.with_name("autoencoders.html")


def refresh_views(root: Path, ledger: Iterable[LedgerLine] | None = None) -> None:
    """Renders the views anew from the results the report stage has collected."""
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


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # captions, class names and file names are other people's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
