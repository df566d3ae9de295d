"""Synchronisation of MLflow with DVC. Every current output is linked to its run, and missing runs are backfilled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from seesay.core.errors import InputError
from seesay.core.files import read_json
from seesay.core.paths import Paths
from seesay.tracking import mlflow_runs
from seesay.tracking.environment import Process, describe_environment, describe_git, find_main_repository
from seesay.tracking.ledger import (
    WORKSPACE_TAG,
    Snapshot,
    create_pipeline_run,
    own_ledger,
    take_snapshot,
    workspace_identity,
)
from seesay.tracking.mlflow_runs import experiment_of, find_run, is_whole, replay
from seesay.tracking.records import Point, now_ms
from seesay.tracking.sqlite_store import repair_moved_paths
from seesay.tracking.store import (
    EXPERIMENTS,
    NOTE,
    PIPELINE,
    Store,
    describe_problem,
    experiment_id,
    locate_store,
    open_client,
    read_prefix,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


LOCK_TAG = "dvc.lock_sha256"
MAX_TAGGED_LINES = 500


def sync(root: Path) -> SyncReport:
    """Bring MLflow in step with DVC. A second sync changes nothing.

    If MLflow cannot be reached, the report's `problem` states the reason. Raises `InputError` if the workspace has no
    readable dvc.yaml, or if another execution is running in it.
    """
    root = root.resolve()
    try:
        store = locate_store(find_main_repository(root))
    except InputError as error:
        return SyncReport(problem=str(error))
    try:
        with own_ledger(root):
            return _sync(root, store, take_snapshot(root))
    except OSError as error:  # .work/ cannot be written to
        return SyncReport(problem=describe_problem(store, error))


def _sync(root: Path, store: Store, snapshot: Snapshot) -> SyncReport:
    try:
        repaired = store.folder is not None and repair_moved_paths(store.folder)
        return replace(_Sync(open_client(store), store, root, snapshot).run(), repaired=repaired)
    except Exception as error:  # MLflow raises many types, from ConnectionError to sqlalchemy's exceptions
        return SyncReport(problem=describe_problem(store, error))


class _Sync:
    def __init__(self, client: MlflowClient, store: Store, root: Path, snapshot: Snapshot) -> None:
        self.client, self.store, self.root, self.snapshot = client, store, root, snapshot
        self.instances, self.records = snapshot.instances, snapshot.records
        self.prefix = read_prefix(root)
        self.pipelines = experiment_id(client, store, self.prefix + PIPELINE)

    def run(self) -> SyncReport:
        closed = mlflow_runs.close_dead_runs(self.client, self._experiments())
        if not self.records:
            return SyncReport(self._lines({}, set(), None, []), num_closed=closed, num_registered=self._register())
        runs = {address: find_run(self.client, self.store, self.root, r) for address, r in self.records.items()}
        missing = {address for address, run in runs.items() if run is None or not is_whole(run, self.records[address])}
        earlier = self._earlier_pipelines()
        late = {self.records[address].record_id for address in missing}
        latest = next((run for run in earlier if LOCK_TAG in run.data.tags or self._made_in(run, late)), None)
        how, pipeline_run, known = self._choose(latest, late)
        ids = {address: str(run.info.run_id) for address, run in runs.items() if run is not None}
        for address in sorted(missing):
            record = self.records[address]
            run = runs[address]
            ids[address] = replay(self.client, self.store, self.root, record, parent=pipeline_run, run=run)
        if how == "unchanged":
            lines = self._lines(ids, missing, None, [], told=known)
        else:
            others = [run.data.tags for run in earlier if run.info.run_id != pipeline_run]
            lines = self._lines(ids, missing, known.get("seesay.pipeline_key"), others)
        if how != "unchanged" or missing:
            self._write(pipeline_run, lines)
        if how == "adopted" and late:
            self._correct_status(pipeline_run)
        if how == "created":
            mlflow_runs.end_run(self.client, pipeline_run, status="FINISHED", ended_ms=now_ms())
        return SyncReport(lines, pipeline_run, how, len(missing), closed, self._register())

    def _choose(self, latest: Any | None, late: set[str]) -> tuple[str, str, dict[str, str]]:
        """Return the origin of the pipeline run for the current state, its id, and the tags it had before.

        `unchanged`: the latest pipeline run of this workspace already describes this dvc.lock. `adopted`: the stages of
        the latest execution created it, and the results of all stages that ran in it are current. They are not if a
        user has since returned to other parameters and DVC has restored all results. `created`: there was none, because
        all results came from DVC's cache or MLflow's store is new. An execution without a successful stage has no state
        to describe. `late` are the ids of the records whose runs this sync completes.
        """
        digest = self.snapshot.lock_digest
        if latest is not None:
            run_id = str(latest.info.run_id)
            if latest.data.tags.get(LOCK_TAG) == digest:
                return "unchanged", run_id, latest.data.tags
            if LOCK_TAG not in latest.data.tags and self._made_in(latest, late) <= self._current():
                return "adopted", run_id, latest.data.tags
        git, _ = describe_git(self.root)
        tags = git | describe_environment(self.root) | {"seesay.process": str(Process.of(psutil.Process()))}
        run_id = create_pipeline_run(
            self.client, self.store, self.root, started_ms=now_ms(), tags=tags, verb="restored"
        )
        return "created", run_id, {}

    def _made_in(self, pipeline_run: Any, late: set[str]) -> set[str]:
        """Return the record ids of the stages that finished successfully in a pipeline run, in time or `late`."""
        made = ((run, run.data.tags.get("seesay.record_id", "")) for run in self._children(pipeline_run.info.run_id))
        return {record for run, record in made if run.info.status == "FINISHED" or record in late}

    def _correct_status(self, pipeline_run: str) -> None:
        """Let an execution count as successful whose stages all were, though MLflow was too slow for some of them."""
        info = self.client.get_run(pipeline_run).info
        if info.status == "FAILED" and all(run.info.status == "FINISHED" for run in self._children(pipeline_run)):
            mlflow_runs.end_run(self.client, pipeline_run, status="FINISHED", ended_ms=info.end_time)

    def _children(self, pipeline_run: str) -> list[Any]:
        condition = f"tags.`{mlflow_runs.PARENT}` = '{pipeline_run}'"
        return mlflow_runs.find_runs(self.client, self._experiments(), condition)

    def _current(self) -> set[str]:
        return {record.record_id for record in self.records.values()}

    def _earlier_pipelines(self) -> list[Any]:
        """Return the last pipeline runs of this workspace. Those begun after the snapshot are not in it."""
        condition = f"tags.`{WORKSPACE_TAG}` = '{workspace_identity(self.root)}'"
        condition += f" AND attributes.start_time <= {self.snapshot.taken_ms}"
        return mlflow_runs.find_runs(self.client, [self.pipelines], condition, newest=20)

    def _experiments(self) -> list[str]:
        names = {self.prefix + name for name in (PIPELINE, *EXPERIMENTS.values())}
        found = [self.client.get_experiment_by_name(name) for name in sorted(names)]
        return [str(experiment.experiment_id) for experiment in found if experiment is not None]

    def _lines(
        self,
        run_ids: dict[str, str],
        replayed: set[str],
        key: str | None,
        earlier: Sequence[Mapping[str, str]],
        told: Mapping[str, str] | None = None,
    ) -> tuple[StageLine, ...]:
        """Return the lines of the execution `key`. `earlier` holds the tags of the pipeline runs before it."""
        described = next((number for number, tags in enumerate(earlier) if LOCK_TAG in tags), len(earlier))
        before = earlier[described] if described < len(earlier) else {}
        killed = {tags.get("seesay.pipeline_key") for tags in earlier[:described]} - {None}  # before their sync
        lines = []
        for instance in self.instances:
            record = self.records.get(instance.address)
            if record is None:
                lines.append(StageLine(instance.address, "no record" if instance.lock else "not run", None, "", ""))
                continue
            run_id, experiment = run_ids[instance.address], experiment_of(self.root, record)
            number = experiment_id(self.client, self.store, experiment)
            link = f"#/experiments/{number}/runs/{run_id}"
            line = StageLine(instance.address, "restored", run_id, experiment, link)
            if instance.address in replayed:
                state = "replayed"
            elif told is not None:
                state = told.get(line.tag, "restored").removesuffix(f" {run_id}")
            elif key is not None and record.pipeline_key == key:
                state = "ran"
            else:
                is_known = before.get(line.tag, "").endswith(f" {run_id}") or record.pipeline_key in killed
                state = "unchanged" if is_known else "restored"
            lines.append(replace(line, state=state))
        return tuple(lines)

    def _write(self, pipeline_run: str, lines: tuple[StageLine, ...]) -> None:
        """Write the lines as tags and as a table (JSON and Markdown), and every result as a metric.

        The metrics make executions comparable.
        """
        table = stage_table(lines)
        note = _note(lines)
        self.client.log_dict(pipeline_run, {"stages": [asdict(line) for line in lines]}, "stages.json")
        self.client.log_text(pipeline_run, table, "stages.md")
        tags = {line.tag: line.tag_value for line in lines[:MAX_TAGGED_LINES]}
        points = [
            Point(0, record.ended_ms, {f"{address.replace('@', '.')}/{name}": v for name, v in record.summary.items()})
            for address, record in self.records.items()
        ]
        mlflow_runs.log_points(self.client, pipeline_run, points)
        mlflow_runs.set_tags(self.client, pipeline_run, tags | {NOTE: note, LOCK_TAG: self.snapshot.lock_digest})

    def _register(self) -> int:
        """Register the models that `register` has released behind a passed gate and that MLflow's registry misses."""
        gate, release = Paths(self.root).gate, Paths(self.root).release
        if not release.is_file() or not gate.is_file() or read_json(gate).get("passed") is not True:
            return 0
        from seesay.tracking.registry import register_models

        return register_models(self.root, read_json(release))


@dataclass(frozen=True)
class StageLine:
    """One stage instance of a pipeline execution.

    `state` is `ran` (in this execution), `restored` (from DVC's cache), `unchanged` (since the previous pipeline run)
    or `replayed` (into MLflow from its record). It is `no record` or `not run` if there is nothing to link. `run_id` is
    the run that created the output.
    """

    address: str
    state: str
    run_id: str | None
    experiment: str
    link: str

    @property
    def tag(self) -> str:
        return f"stage.{self.address.replace('@', '.')}"

    @property
    def tag_value(self) -> str:
        return f"{self.state} {self.run_id}" if self.run_id else self.state


@dataclass(frozen=True)
class SyncReport:
    """Result of a sync. `problem` is the reason for a failure, or None if it succeeded."""

    lines: tuple[StageLine, ...] = ()
    pipeline_run_id: str | None = None
    pipeline: str = "none"  # "created", "adopted" or "unchanged"
    num_replayed: int = 0
    num_closed: int = 0
    num_registered: int = 0
    repaired: bool = False
    problem: str | None = None

    @property
    def changed(self) -> bool:
        done = self.num_replayed or self.num_closed or self.num_registered or self.repaired
        return bool(done) or self.pipeline in ("created", "adopted")

    def __str__(self) -> str:
        if self.problem is not None:
            return f"MLflow is not in step with DVC: {self.problem}"
        counts = {state: sum(line.state == state for line in self.lines) for state in dict.fromkeys(_STATES)}
        states = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no stages"
        actions = [
            f"pipeline run {self.pipeline_run_id} {self.pipeline}" if self.pipeline_run_id else "no pipeline run",
            *([f"{self.num_closed} dead runs closed"] if self.num_closed else []),
            *([f"{self.num_registered} model versions registered"] if self.num_registered else []),
            *(["artifact paths repaired after a move"] if self.repaired else []),
        ]
        return f"MLflow is in step with DVC: {states} ({'; '.join(actions)})"


_STATES = ("ran", "restored", "unchanged", "replayed", "no record", "not run")


def stage_table(lines: tuple[StageLine, ...]) -> str:
    """Return the lines as a Markdown table whose links open in the MLflow UI."""
    rows = [f"| {x.address} | {x.state} | " + (f"[{x.run_id}]({x.link})" if x.run_id else "") + " |" for x in lines]
    return "\n".join(["| stage | in this execution | made by run |", "|---|---|---|", *rows]) + "\n"


def _note(lines: tuple[StageLine, ...]) -> str:
    """Return the table as a description of at most MLflow's size: stages that ran come first, and others may be cut."""
    ran_first = sorted(lines, key=lambda line: line.state != "ran")
    for number in range(len(lines), 0, -1):
        table = stage_table(tuple(ran_first[:number]))
        if len(table) < mlflow_runs.MAX_TAG - 100:
            rest = len(lines) - number
            return table if not rest else f"{table}\nand {rest} more, in the artifact stages.md\n"
    return ""
