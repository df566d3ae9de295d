"""Render the results as a Markdown file of tables and as HTML pages that open offline."""

from pathlib import Path

from seesay.core.stage import run
from seesay.core.paths import Paths
from seesay.params.project import load_params
from seesay.report.page import autoencoders_page, render_views
from seesay.report.results import collect_results, write_results
from seesay.tracking.recorder import record_stage


def main(root: Path = Path()) -> None:
    params, paths = load_params(root), Paths(root)
    with record_stage(root, "report", params=params.report) as log:
        results = collect_results(params, paths)
        write_results(paths.results_data, results)
        render_views(results, params, paths)
        log.artifact(paths.results)
        log.artifact(paths.report)
        log.artifact(autoencoders_page(paths))
        log.artifact(paths.captions_page)


if __name__ == "__main__":
    run(main)
