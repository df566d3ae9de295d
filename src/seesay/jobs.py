"""`seesay repro --jobs N`: independent experiments side by side, each as `dvc repro --single-item`.

DVC runs one stage at a time. Here the driver reads DVC's own graph, and hands each stage whose dependencies are done to
one of N workers. A worker is a process with DVC imported once, which calls DVC's command line for one stage after
another. DVC's locks keep its files whole; nothing else is shared.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from seesay.console import EPOCH, Progress, duration, follow, signals_forwarded
from seesay.core.errors import InputError, redact
from seesay.core.forkserver import forking_python

if TYPE_CHECKING:
    from dvc.stage import Stage

    from seesay.cluster import Dispatcher
    from seesay.cluster import Worker as Machine


class LiveTable:
    """A row for each stage that runs: its epoch, the time since its start, and the time left where it can be told.

    The time left comes from the epochs that are done, else from the stage's last run (`seconds`). Lines that stay on
    the screen are printed above the table, by `say`. A context manager; outside of it, nothing is drawn.
    """

    def __init__(self, seconds: Mapping[str, float], *, console: Console | None = None) -> None:
        self._seconds = seconds
        self._console = console or Console()
        self._started: dict[str, float] = {}
        self._epochs: dict[str, tuple[int, int, float]] = {}  # how many, of how many, and when the last one ended
        self._live = Live(
            console=self._console, get_renderable=self.table, refresh_per_second=2, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def start(self, stage: str) -> None:
        self._started[stage] = time.monotonic()

    def note(self, stage: str, line: str) -> None:
        """Take a stage's number of epochs from the line that it prints after each."""
        if found := EPOCH.match(line):
            self._epochs[stage] = (int(found[1]), int(found[2]), time.monotonic())

    def finish(self, stage: str) -> None:
        self._started.pop(stage, None)
        self._epochs.pop(stage, None)

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Table:
        """Return the table as it is now."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("running", "epoch", "for", "left"):
            table.add_column(heading, justify="left" if heading == "running" else "right", no_wrap=True)
        for stage, started in dict(self._started).items():
            done = self._epochs.get(stage)
            left = self._left(stage, started)
            table.add_row(
                stage,
                f"{done[0]}/{done[1]}" if done else "",
                duration(time.monotonic() - started),
                "" if left is None else duration(left),
            )
        return table

    def _left(self, stage: str, started: float) -> float | None:
        now = time.monotonic()
        if done := self._epochs.get(stage):
            num_done, num_epochs, ended = done
            return max(0.0, (ended - started) / num_done * (num_epochs - num_done) - (now - ended))
        if (last := self._seconds.get(stage)) is not None:
            return max(0.0, last - (now - started))
        return None


FINISHED = "seesay.jobs finished "
"""Begins the line by which a worker says that it has done a stage, and with which exit status."""

ENDED = "seesay.jobs ended"
"""What is read of a worker that was killed: none ends by itself before it is told to."""

Lines = SimpleQueue[tuple["_Worker | _OtherMachine", str]]
"""What workers and their stages print."""

Graph = Mapping[str, frozenset[str]]
"""The stages that each stage depends on directly, by address."""


class Schedule:
    """Which stages can run: those whose dependencies are done. What depends on a failed stage is left out.

    `graph` holds the stages to run; dependencies outside it count as done. Stages with the longest chain of stages
    after them go first, so that none is left alone at the end.
    """

    def __init__(self, graph: Graph) -> None:
        self._missing = {stage: {one for one in needed if one in graph} for stage, needed in graph.items()}
        self._after = _chains_after(self._missing)
        self._running: set[str] = set()
        self.failed: list[str] = []
        self.left_out: list[str] = []

    def next(self, *, among: Callable[[str], bool] = lambda _: True) -> str | None:
        """Return a stage that can run now, and count it as running; None if there is none."""
        ready = [stage for stage, missing in self._missing.items() if not missing and among(stage)]
        stage = max(ready, key=self._after.__getitem__, default=None)  # of equal ones the first in the graph
        if stage is not None:
            del self._missing[stage]
            self._running.add(stage)
        return stage

    def finish(self, stage: str, *, passed: bool) -> None:
        """Count a running stage as done, or as failed, together with all that depends on it."""
        self._running.remove(stage)
        if passed:
            for missing in self._missing.values():
                missing.discard(stage)
            return
        self.failed.append(stage)
        lost = {stage}
        while more := {other for other, missing in self._missing.items() if missing & lost} - lost:
            lost |= more
        self.left_out += [other for other in self._missing if other in lost]
        self._missing = {other: missing for other, missing in self._missing.items() if other not in lost}

    @property
    def is_done(self) -> bool:
        return not self._missing and not self._running


def _chains_after(needed: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Return how many stages the longest chain that waits for each stage has. `needed` has what each waits for."""
    after = dict.fromkeys(needed, 0)
    for stage in reversed(list(TopologicalSorter(needed).static_order())):  # those that wait for a stage come first
        for one in needed[stage]:
            after[one] = max(after[one], after[stage] + 1)
    return after


def share_gpus(num_jobs: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the variables by which each of `num_jobs` jobs sees its own GPUs; none where there are no GPUs.

    A job has every n-th of those that `environment` lets it see. With fewer GPUs than jobs, jobs share one.
    """
    gpus = _visible_gpus(environment)
    parts = [gpus[number::num_jobs] or gpus[number % max(1, len(gpus)) :][:1] for number in range(num_jobs)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(part)} if part else {} for part in parts]


def _visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs by number or UUID, without a CUDA context in this process."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for one in named.split(",") if (name := one.strip())]
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):  # no driver, or none that answers
        return []


class _OtherMachine:
    """Runs one stage after another on another machine."""

    def __init__(self, dispatcher: Dispatcher, machine: Machine, lines: Lines) -> None:
        self.stage = ""
        self._dispatcher, self._machine, self._lines = dispatcher, machine, lines

    def takes(self, stage: str) -> bool:
        return stage in self._dispatcher.travelling

    def run(self, stage: str, _options: Sequence[str]) -> None:
        self.stage = stage
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        status = 1
        try:
            status, output = self._dispatcher.run(self.stage, self._machine)
            for line in output.splitlines():
                self._lines.put((self, line))
        except Exception as error:  # of the machine, the remote or Ray: this stage fails, the others go on
            self._lines.put((self, f"seesay: error: {self.stage}: {redact(str(error))}"))
        self._lines.put((self, f"{FINISHED}{status}"))


class _Worker:
    """A process that runs one stage after another; what it and its stages print goes to `lines`."""

    def __init__(self, root: Path, environment: Mapping[str, str], lines: Lines, elsewhere: Container[str]) -> None:
        self.stage, self._elsewhere = "", elsewhere
        self._process = subprocess.Popen(
            [sys.executable, "-m", "seesay.jobs"], cwd=root, env=environment, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        self.group = self._process.pid
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def run(self, stage: str, options: Sequence[str]) -> None:
        self.stage = stage
        assert self._process.stdin is not None
        try:
            print(json.dumps(["--wait-for-lock", "repro", "--single-item", *options, stage]), file=self._process.stdin)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it was killed: `lines` will say so

    def takes(self, stage: str) -> bool:
        return stage not in self._elsewhere

    def close(self) -> None:
        """Let the worker end after its stage, and wait for that."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _read(self, lines: Lines) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            lines.put((self, line.rstrip("\n")))
        lines.put((self, ENDED))


def run_side_by_side(
    root: Path,
    targets: Sequence[str],
    options: Sequence[str],
    *,
    num_jobs: int,
    rewrite: Callable[[str], str] = str,
    dispatcher: Dispatcher | None = None,
    machines: Sequence[Machine] = (),
) -> Progress:
    """Reproduce `targets` and what they depend on (all stages if empty), `num_jobs` at a time; show the progress.

    With `machines`, stages that can travel run there, and the others here. `options` are passed to each `dvc repro`
    here. A failed stage stops only what depends on it. After SIGINT or SIGTERM,
    exits once all stages have ended.
    """
    graph = read_graph(root, targets, everything=not FORCE.isdisjoint(options))
    side_by_side = len(machines) or num_jobs
    progress, schedule = follow(root, numbered=not targets, brief=True, num_jobs=side_by_side), Schedule(graph)
    progress.skip([stage for stage in progress.todo if stage not in graph])
    lines: Lines = SimpleQueue()
    elsewhere = frozenset() if dispatcher is None else dispatcher.travelling
    if dispatcher is not None:
        progress.has_remote = False  # outputs are there already: no advice to push them
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Processes that share cores must not spin while they wait for each other.
    shared = {"OMP_WAIT_POLICY": "passive", **os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    shared.setdefault("SEESAY_PIPELINE", f"jobs-{uuid.uuid4().hex}")
    with ExitStack() as stack:
        environment = stack.enter_context(forking_python(shared))
        gpus = share_gpus(num_jobs, environment) if num_jobs > 1 else [{}]
        signals = stack.enter_context(signals_forwarded())
        here = []
        for own in gpus:
            here.append(_Worker(root, {**environment, **own}, lines, elsewhere))
            stack.callback(here[-1].close)
            signals.add_group(here[-1].group)
        workers: list[_Worker | _OtherMachine] = [*here]
        if dispatcher is not None:
            workers += [_OtherMachine(dispatcher, machine, lines) for machine in machines]
        idle = list(workers)
        if sys.stdout.isatty():
            progress.table = stack.enter_context(LiveTable(progress.seconds))
        while not schedule.is_done:
            for worker in reversed(list(idle)):
                if not signals.received and (stage := schedule.next(among=worker.takes)) is not None:
                    idle.remove(worker)
                    worker.run(stage, options)
            if len(idle) == len(workers):
                break  # nothing is running: interrupted, or no worker is left
            if signals.received and all(isinstance(one, _OtherMachine) for one in workers if one not in idle):
                break  # what runs elsewhere is lost, like what it has not sent yet
            try:
                worker, line = lines.get(timeout=1.0)
            except Empty:
                continue
            if line == ENDED:
                workers.remove(worker)
                if worker in idle:
                    idle.remove(worker)
                else:
                    schedule.finish(worker.stage, passed=False)
                    progress.finish(worker.stage)
            elif line.startswith(FINISHED):
                schedule.finish(worker.stage, passed=line == f"{FINISHED}0")
                progress.finish(worker.stage)
                idle.append(worker)
            else:
                progress.show(rewrite(line), of=worker.stage)
    if signals.received:
        sys.exit(128 + signals.received[0])
    for stage in schedule.failed:
        print(f"seesay: error: {stage} failed", file=sys.stderr)
    if schedule.left_out:
        print(f"seesay: not run, since they depend on it: {', '.join(schedule.left_out)}", file=sys.stderr)
    progress.status = 0 if schedule.is_done and not schedule.failed else 1
    return progress


FORCE = frozenset({"-f", "--force"})

SIDE_BY_SIDE = FORCE | {
    *("--dry", "--pull", "--allow-missing", "--no-commit", "--no-run-cache", "-k", "--keep-going"),
    *("-q", "--quiet", "-v", "--verbose"),
}
"""Options of `dvc repro` that mean the same for stages one at a time, as they are run here."""


def read_graph(root: Path, targets: Iterable[str], *, everything: bool = False) -> Graph:
    """Return DVC's graph of the stages that differ from dvc.lock, and of those that depend on them.

    Only `targets` and what they depend on are included, or all stages where there are no targets. With `everything`,
    stages that do not differ are included too.
    """
    from seesay.tracking.dvc_stages import prepare_dvc

    prepare_dvc()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            edges = {_address(stage): [_address(other) for other in graph[stage]] for stage in repo.index.stages}
            changed = {address.rpartition(":")[2] for address in repo.status()}  # relative to the current folder
    except DvcException as error:
        raise InputError(f"{root}: {error}") from None
    wanted = _closure(edges, _named(edges, targets) or edges)
    stale = {stage for stage in wanted if everything or _closure(edges, [stage]) & changed}
    return {stage: frozenset(edges[stage]) for stage in edges if stage in stale}


def _address(stage: Stage) -> str:
    """Return a stage's name, or the file of a stage without one: what `dvc add` has made."""
    return str(getattr(stage, "name", None) or stage.addressing)


def _named(edges: Mapping[str, Sequence[str]], targets: Iterable[str]) -> list[str]:
    """Return the addresses of stages, and of all instances of stages with a `foreach`."""
    found = []
    for target in targets:
        named = [stage for stage in edges if stage == target or stage.startswith(f"{target}@")]
        if not named:
            raise InputError(f"got the stage {target!r}: there is no such stage in dvc.yaml")
        found += named
    return found


def _closure(edges: Mapping[str, Sequence[str]], stages: Iterable[str]) -> set[str]:
    """Return the stages and all that they depend on."""
    found, todo = set(), list(stages)
    while todo:
        stage = todo.pop()
        if stage not in found:
            found.add(stage)
            todo += edges[stage]
    return found


def work() -> None:
    """Run the stages that come as lines of arguments for DVC on standard input, until it is closed."""
    from seesay.tracking.dvc_stages import prepare_dvc

    prepare_dvc()
    from dvc.cli import main

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with suppress(KeyboardInterrupt):  # while it waits; DVC sees to those that come while a stage runs
        for line in sys.stdin:
            status = main(json.loads(line))
            print(f"{FINISHED}{status}", flush=True)


def _end_with(parent: int) -> None:
    """End like after Ctrl-C, with the stage that is running, when the driver was killed."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.killpg(0, signal.SIGINT)


if __name__ == "__main__":
    work()
