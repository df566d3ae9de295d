"""The views of the results: reports/results.md, and pages that open offline.

The pages are index.html, autoencoders.html and captions.html. None of the views is a DVC output, because they show
when, on what hardware and at which commit the results were computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from seesay.autoencoding.page import collect_autoencoder_figures
from seesay.captioning.page import read_shared_cases
from seesay.classification.figures.ranking import draw_costs
from seesay.core.errors import InputError
from seesay.core.files import write_text
from seesay.core.paths import Paths
from seesay.params.project import Params, load_params
from seesay.plotting.embed import ExperimentFigures, Panel, Picture
from seesay.plotting.table import SUPERSCRIPTS, Table, format_value
from seesay.report.compare import NOISE, Comparison, compare_refs, comparison_markdown
from seesay.report.data_section import read_data_reports
from seesay.report.experiments_section import Figures, collect_figures
from seesay.report.gate import read_verdict
from seesay.report.overview import Chart, autoencoder_charts, caption_charts, classifier_charts, read_cards
from seesay.report.results import Results, read_results, results_markdown, results_tables
from seesay.report.rules import read_gates
from seesay.report.runs import (
    LedgerLine,
    StageRun,
    collect_timings,
    describe_provenance,
    kept_trainings_note,
    read_runs,
)

TEMPLATES = Path(__file__).parent / "templates"

MAX_PICTURE_BYTES = 1_700_000
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
    sections, footnotes = results_tables(results, timings)
    figures = collect_figures(params, paths, results, costs=costs, max_bytes=MAX_PICTURE_BYTES)
    tasks = list(_tasks(results, sections, figures))
    baseline, comparison, no_comparison = _since_baseline(paths)
    page = _template("index.html").render(
        title=title,
        page=paths.report.name,
        note=note,
        provenance=provenance,
        cards=read_cards(results, paths, comparison),
        baseline=baseline,
        comparison=comparison,
        no_comparison=no_comparison,
        changes=[] if comparison is None else comparison.main_changes,
        noise=NOISE,
        tasks=tasks,
        data_tables=sections["data"],
        footnotes=footnotes,
        figures=figures,
        datasets=read_data_reports(params, paths),
        verdict=_verdict(paths),
        runs=runs,
        kept_trainings=kept_trainings_note(runs),
        has_ledger=ledger is not None,
        duration=duration,
    )
    caption_datasets = dict.fromkeys(captioner.learning.datasets[0] for captioner in params.captioners.values())
    cases = read_shared_cases(paths, list(caption_datasets))
    charts = {task.id: task.charts for task in tasks}
    captions = _template("captions.html").render(
        title=title,
        page=paths.captions_page.name,
        provenance=provenance,
        datasets=cases,
        charts=charts.get("captions", {}),
    )
    write_text(paths.results, markdown)
    shown = [one for one in collect_autoencoder_figures(params, paths) if one.details or one.left_out]
    autoencoders = _template("autoencoders.html").render(
        title=title,
        page=autoencoders_page(paths).name,
        provenance=provenance,
        experiments=shown,
        charts=list(charts.get("autoencoders", {}).values()),
        anchors={one.cell: one.cell for one in shown},
    )
    write_text(autoencoders_page(paths), autoencoders)
    write_text(paths.captions_page, captions)
    write_text(paths.report, page)


@dataclass(frozen=True)
class Task:
    """A task's section of the page: charts by dataset, the ranking of each, further tables, figures, experiments.

    `anchors` and `scores` are by experiment.
    """

    id: str
    title: str
    link: tuple[str, str] | None
    charts: Mapping[str, Chart]
    ranked: Sequence[Table]
    tables: Sequence[Table]
    figures: Sequence[Picture | Panel]
    experiments: Sequence[ExperimentFigures]

    @property
    def anchors(self) -> dict[str, str]:
        return {one.cell: f"{self.id}-{one.cell}" for one in self.experiments}

    @property
    def scores(self) -> dict[str, str]:
        return {mark.cell: mark.text for chart in self.charts.values() for mark in chart.marks}

    @property
    def parts(self) -> list[tuple[str, str]]:
        """The anchor and the title of each part, for the list of contents."""
        parts = [(f"{self.id}-on-{name}", name) for name in self.charts]
        parts += [(f"{self.id}-table-{number}", table.title) for number, table in enumerate(self.tables, start=1)]
        parts += [(f"{self.id}-figures", "Compared")] if self.figures else []
        return parts + ([(f"{self.id}-experiments", "Experiments")] if self.experiments else [])


def _tasks(results: Results, sections: Mapping[str, list[Table]], figures: Figures) -> Iterator[Task]:
    """Yield the section of each task that has results; the first tables of a section rank, one per chart."""
    for name, title, link, charts in (
        ("classification", "Classification", None, classifier_charts(results.classification)),
        ("captions", "Captioning", ("captions.html", "Captions of the same images by all captioners, and attention"),
         caption_charts(results.captions)),
        ("autoencoders", "Autoencoders", ("autoencoders.html", "Reconstructions, encoder maps and latents"),
         autoencoder_charts(results.autoencoders)),
    ):  # fmt: skip
        tables, experiments = sections[name], figures.experiments[name]
        # The table of reconstructions has all datasets.
        num_ranked = min(len(charts), 1 if name == "autoencoders" else len(charts))
        compared = figures.comparison if name == "classification" else []
        if tables or experiments:
            yield Task(name, title, link, charts, tables[:num_ranked], tables[num_ranked:], compared, experiments)


def _since_baseline(paths: Paths) -> tuple[str, Comparison | None, str]:
    """Return the gate's baseline, the comparison of its metrics with the workspace's, and why there is none."""
    try:
        baseline = read_gates(paths.gates).baseline
        if baseline is None:
            return "", None, "The gate has no baseline to compare with."
        return baseline, compare_refs(paths.root, baseline), ""
    except InputError as error:
        return "", None, f"There is no baseline to compare with: {error}."


def write_comparison(comparison: Comparison, folder: Path) -> tuple[Path, Path]:
    """Write a comparison as Markdown and as a page that opens offline; return both paths."""
    markdown, page = folder / "compare.md", folder / "compare.html"
    write_text(markdown, comparison_markdown(comparison))
    write_text(page, _template("compare.html").render(title="", page="", comparison=comparison, noise=NOISE))
    return markdown, page


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
    environment.filters["plain"] = lambda text: text.rstrip(SUPERSCRIPTS)
    environment.filters["mark"] = lambda text: text[len(text.rstrip(SUPERSCRIPTS)) :]  # of a footnote
    return environment.get_template(name)
