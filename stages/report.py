"""Render the results: a file of tables, and pages that open offline."""

from pathlib import Path

from seesay.params.agreement import load_params
from seesay.paths import Paths
from seesay.reporting.page import autoencoders_page, render_views
from seesay.reporting.results import collect_results, write_results
from seesay.stage import run
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
