"""Judge the results, and fail if a metric is missing, out of bounds or worse than in the baseline."""

import sys
from pathlib import Path

from seesay.core.stage import run
from seesay.core.paths import Paths
from seesay.report.gate import judge_workspace, write_verdict
from seesay.tracking.recorder import record_stage


def main(root: Path = Path()) -> None:
    paths = Paths(root)
    with record_stage(root, "gate", params={"gates": paths.gates.name}) as log:
        verdict = judge_workspace(root)
        write_verdict(verdict, json_path=paths.gate, markdown_path=paths.verdict)
        # Not in a metrics file, because `report` runs earlier and depends on all of metrics/.
        log.measurement({"passed": float(verdict.passed), "num_failed": float(verdict.num_failed)})
        log.artifact(paths.verdict)
    print(verdict.summary())
    if verdict.exit_code:
        sys.exit(verdict.exit_code)


if __name__ == "__main__":
    run(main)
