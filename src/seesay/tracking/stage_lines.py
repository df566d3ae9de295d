"""What a sync says of each stage: a line a stage instance, and the report that holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageLine:
    """One stage instance of a pipeline execution.

    `state`: `ran` in it; `restored` by DVC's cache; `unchanged` since the pipeline run before; `replayed` into MLflow
    from its record; `no record` or `not run` where there is nothing to link. `run_id`: the run that made the output.
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
    """What a sync has found and done. `problem` is why it could not, where it could not."""

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
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no stages"
        did = [
            f"pipeline run {self.pipeline_run_id} {self.pipeline}" if self.pipeline_run_id else "no pipeline run",
            *([f"{self.num_closed} dead runs closed"] if self.num_closed else []),
            *([f"{self.num_registered} model versions registered"] if self.num_registered else []),
            *(["artifact paths repaired after a move"] if self.repaired else []),
        ]
        return f"MLflow is in step with DVC: {said} ({'; '.join(did)})"


_STATES = ("ran", "restored", "unchanged", "replayed", "no record", "not run")


def stage_table(lines: tuple[StageLine, ...]) -> str:
    """The lines as a Markdown table whose links open in the MLflow UI."""
    rows = [f"| {x.address} | {x.state} | " + (f"[{x.run_id}]({x.link})" if x.run_id else "") + " |" for x in lines]
    return "\n".join(["| stage | in this execution | made by run |", "|---|---|---|", *rows]) + "\n"
