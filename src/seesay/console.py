"""What a run of the pipeline prints: changed sources, numbered stages with the time left, and scores at its end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from seesay.core.errors import InputError
from seesay.core.forkserver import forking_python
from seesay.core.paths import Paths, cell_name
from seesay.core.settings import read_yaml
from seesay.params.datasets import CocoFilesSource, ImageFolderSource
from seesay.params.project import Params
from seesay.plotting.table import CHANCE, Row, format_change, format_value
from seesay.sources.local import changed_files

if TYPE_CHECKING:
    from seesay.jobs import LiveTable
    from seesay.report.results import Results

_RUNNING = re.compile(r"Running stage '(?:.*:)?([^':]+)':")
_DONE = re.compile(r"Stage '(?:.*:)?([^':]+)' (didn't change, skipping|is cached - skipping run, checking out outputs)")
EPOCH = re.compile(r"epoch (\d+)/(\d+): ")
_EMPTY = re.compile(r"WARNING: '.*' is empty\.")  # the folders of the stage `placeholder` are meant to be
_PROBLEM = re.compile(r"ERROR: |WARNING: |seesay: (error|warning): ")
_NOISE = re.compile(r"\s*$|> python |(Updating|Generating) lock file|Initialized DVC repository")
_PUSH = "Use `dvc push`"
_GIT_ADVICE = re.compile(r"To track the changes with git, run:|\tgit add |To enable auto staging, run:|\tdvc config ")


def changed_sources(params: Params, root: Path) -> Iterator[str]:
    """Yield a note on each user-supplied file or folder that has changed since it was fetched; DVC tracks copies."""
    paths = Paths(root)
    sources = {
        **{f"fetch_images@{name}": (one, paths.raw_images(name)) for name, one in params.image_sources.items()},
        **{f"fetch_captions@{name}": (one, paths.raw_captions(name)) for name, one in params.caption_sources.items()},
    }
    for stage, (source, folder) in sources.items():
        if isinstance(source, ImageFolderSource | CocoFilesSource):
            for path in changed_files(source, folder, root=root):
                yield f"{path} has changed since it was fetched: `dvc repro -f {stage}` reads it again"


class Progress:
    """The lines to show of what DVC and the stages print.

    Each stage that runs or is restored gets a number among all `addresses` and, once it can be told, the time that is
    left with `num_jobs` stages side by side. `seconds` has the durations of earlier runs. With `brief`, only the last
    epoch of a training stays on the screen, and advice on git is left out. `status` is the exit status of DVC. A
    `table`, if there is one, shows the stages that are running.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        seconds: Mapping[str, float],
        *,
        has_remote: bool,
        brief: bool,
        num_jobs: int = 1,
    ) -> None:
        self.todo = dict.fromkeys(addresses)
        self.total, self.seconds, self.has_remote, self.brief = len(self.todo), seconds, has_remote, brief
        self.num_jobs = num_jobs
        self.num_run = self.num_skipped = self.status = 0
        self.table: LiveTable | None = None
        self._begun: dict[str, float] = {}  # when the stages that run began
        self._taken: dict[str, list[float]] = {}  # the seconds of those that have ended, by kind
        self._held: dict[str, str] = {}  # the last epoch by stage

    def show(self, line: str, *, of: str = "") -> None:
        """Print what is to be seen of one line of DVC's output; `of` names its stage where several run side by side."""
        if self.brief and EPOCH.match(line):
            self._held[of] = f"{of}: {line}" if of else line
            if self.table is not None:
                self.table.note(of, line)
            elif sys.stdout.isatty():
                print(f"\r\033[K{self._held[of][: shutil.get_terminal_size().columns - 1]}", end="", flush=True)
            return
        self._release(of)
        if self.table is not None and _RUNNING.match(line):
            self.table.start(of)
        for shown in self._shown(line):
            of_whom = f"{of}: " if of and not (_RUNNING.match(line) or _DONE.match(line)) else ""
            self._say(f"{of_whom}{shown}", is_problem=_PROBLEM.match(shown) is not None)

    def skip(self, stages: Iterable[str]) -> None:
        """Count stages as unchanged that are known to be."""
        for stage in stages:
            if stage in self.todo:
                del self.todo[stage]
                self.num_skipped += 1

    def finish(self, stage: str) -> None:
        """Note the end of a stage that ran beside others."""
        self._release(stage)
        self._note_ends([stage])
        if self.table is not None:
            self.table.finish(stage)

    def _note_ends(self, stages: Iterable[str]) -> None:
        for stage in list(stages):
            if (begun := self._begun.pop(stage, None)) is not None:
                self._taken.setdefault(_kind(stage), []).append(time.monotonic() - begun)

    def _release(self, stage: str) -> None:
        """Print the last epoch of a stage, which stays on the screen."""
        if last := self._held.pop(stage, None):
            over_last = "\r\033[K" if self.table is None and sys.stdout.isatty() else ""
            self._say(f"{over_last}{last}")

    def _say(self, line: str, *, is_problem: bool = False) -> None:
        if self.table is not None:
            self.table.say(line)
        else:
            print(line, flush=True, file=sys.stderr if is_problem else sys.stdout)

    def _shown(self, line: str) -> Iterator[str]:
        if done := _DONE.match(line):
            self.todo.pop(done[1], None)
            if done[2].startswith("is cached"):
                yield f"{self._number()} {done[1]}: restored from DVC's cache"
            self.num_skipped += 1
        elif running := _RUNNING.match(line):
            if self.num_jobs == 1:
                self._note_ends(self._begun)
            self._begun[running[1]] = time.monotonic()
            yield f"{self._number()} {running[1]}{self._time_left()}"
            self.todo.pop(running[1], None)
            self.num_run += 1
        elif not (
            _NOISE.match(line)
            or _EMPTY.match(line)
            or (line.startswith(_PUSH) and not self.has_remote)
            or (self.brief and _GIT_ADVICE.match(line))
        ):
            yield line

    def _number(self) -> str:
        number = self.num_run + self.num_skipped + 1
        return f"[{number:{len(str(self.total))}}/{self.total}]" if self.total >= number else "-"

    def _time_left(self) -> str:
        """Return the time that all remaining stages take: each its last duration, or the mean of its kind in this run.

        Of a kind that has not run yet, the mean of all stands in, but not for trainings, which take the longest.
        """
        everything = [seconds for kind in self._taken.values() for seconds in kind]
        if not self.todo:
            return ""
        left = 0.0
        for address in self.todo:
            seconds = self.seconds.get(address)
            if seconds is None:
                alike = self._taken.get(_kind(address)) or ([] if address.startswith(_LONG) else everything)
                if not alike or len(everything) < 3:
                    return ""
                seconds = sum(alike) / len(alike)
            left += seconds / self.num_jobs
        # Stages that have not changed will take no time, but DVC does not say yet which these are.
        word = "at most" if self.num_skipped or self.seconds else "about"
        return f", {word} {duration(left)} left"


_LONG = ("train_", "extract_", "finetune_")


def _kind(address: str) -> str:
    return address.partition("@")[0]


def duration(seconds: float) -> str:
    """Return a time in seconds, or in minutes from 100 seconds on."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def run_dvc(root: Path, arguments: Sequence[str], *, brief: bool, rewrite: Callable[[str], str] = str) -> Progress:
    """Run `dvc repro` in `root` with this interpreter's commands first on PATH, and show its lines, rewritten.

    With `brief`, errors and the progress of trainings are part of those lines; without, they go to the terminal as they
    are. After SIGINT or SIGTERM, exits once DVC and its stage have.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment: Mapping[str, str] = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "seesay.tracking.dvc_stages", "repro", *arguments]
    # A group of its own gets each signal once. To ask at the terminal, DVC must stay in the terminal's group.
    asks = not {"-i", "--interactive"}.isdisjoint(arguments)
    progress = follow(root, numbered=not arguments, brief=brief)
    with (
        forking_python(environment) as environment,
        signals_forwarded() as signals,
        subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if brief else None,
            text=True, errors="replace", process_group=None if asks else 0,
        ) as process,
    ):  # fmt: skip
        if not asks:
            signals.add_group(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            progress.show(rewrite(line.rstrip("\n")))
    if signals.received:
        sys.exit(128 + signals.received[0])
    progress.status = exit_status(process.returncode)
    return progress


def exit_status(code: int) -> int:
    """Return the exit status of a process as shells give it, from a return code of `subprocess`."""
    return 128 - code if code < 0 else code


class Signals:
    """Signals that were received, and the process groups that they are forwarded to."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self._groups: list[int] = []

    def add_group(self, group: int) -> None:
        """Forward signals to this process group too, with those that came while it was started."""
        self._groups.append(group)
        for number in list(self.received):
            _signal(group, number)

    def forward(self, number: int, _frame: object) -> None:
        self.received.append(number)
        for group in self._groups:
            _signal(group, number)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


@contextmanager
def signals_forwarded() -> Iterator[Signals]:
    """Forward SIGINT and SIGTERM to process groups instead of ending. Enter it before the processes are started."""
    signals = Signals()
    before = {number: signal.signal(number, signals.forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(root: Path, *, numbered: bool, brief: bool, num_jobs: int = 1) -> Progress:
    """Return the progress of a run of the workspace `root`; unless `numbered`, stages get no number."""
    paths = Paths(root)
    config = "".join(path.read_text(encoding="utf-8") for path in (root / ".dvc").glob("config*"))
    addresses = list(_addresses(paths)) if numbered else []
    has_remote = "remote" in config
    return Progress(addresses, _durations(paths, addresses), has_remote=has_remote, brief=brief, num_jobs=num_jobs)


def _addresses(paths: Paths) -> Iterator[str]:
    params = read_yaml(paths.params)
    for stage, definition in read_yaml(paths.pipeline)["stages"].items():
        section = re.fullmatch(r"\$\{(\w+)\}", str(definition.get("foreach", "")))
        yield from (cell_name(stage, cell) for cell in params[section[1]]) if section else [stage]


def _durations(paths: Paths, addresses: Iterable[str]) -> dict[str, float]:
    """Return the seconds of each instance's last run, where its record tells them."""
    seconds = {}
    for address in addresses:
        stage, _, cell = address.partition("@")
        with suppress(OSError, ValueError, TypeError, KeyError):
            record = json.loads(paths.run_record(stage, cell or None).read_text(encoding="utf-8"))
            seconds[address] = (record["ended_ms"] - record["started_ms"]) / 1000
    return seconds


def earlier_results(paths: Paths) -> Results | None:
    """Return the results of the last run, or None where there are none that this version reads."""
    from seesay.report.results import read_results  # imports Matplotlib, which workers of --jobs do not need

    with suppress(InputError):
        return read_results(paths.results_data)
    return None


TOP1, PSNR, CIDER = "test/top1", "test/psnr", "cider_d"
_SHORT = {TOP1: "top-1", PSNR: "PSNR", CIDER: "CIDEr-D"}
_BESIDE_CAPTIONS = {
    "floor_nearest": "caption of the nearest training image",
    "floor_constant": "best constant caption",
    "test_shuffled": "captions of other images",
}


def score_table(results: Results) -> str:
    """Return a table of the best experiment of each task on test data, beside what is reached without its model."""
    lines = [("test data", "best", "", "beside")]

    def add(metric: str, best: Row, other: Row | None, says: str) -> None:
        if other is not None and other.get(metric) is not None:
            scores = (format_value(metric, row[metric]) for row in (best, other))
            lines.append((_SHORT[metric], best["cell"], next(scores), f"{next(scores)}, {says}"))

    if best := _best([row for row in results.classification if "architecture" in row], TOP1):
        add(TOP1, best, _find(results.classification, cell=CHANCE, dataset=best["dataset"]), "chance")
    if best := _best(results.autoencoders, PSNR):
        add(PSNR, best, {PSNR: best["test/mean_image_psnr"]}, "mean image")
    if best := _best([row for row in results.captions if row["set"] == "test"], CIDER):
        for name, says in _BESIDE_CAPTIONS.items():
            add(CIDER, best, _find(results.captions, cell=best["cell"], set=name), says)
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in lines)


def _best(rows: Iterable[Row], metric: str) -> Row | None:
    return max((row for row in rows if row[metric] is not None), key=lambda row: float(row[metric]), default=None)


def _find(rows: Iterable[Row], **wanted: str) -> Row | None:
    return next((row for row in rows if all(row.get(key) == value for key, value in wanted.items())), None)


def moved_scores(before: Results, after: Results) -> str:
    """Return a line for each experiment whose main score on test data has moved: old value, new value, difference."""
    old, new = _main_scores(before), _main_scores(after)
    lines = []
    for (cell, metric), value in new.items():
        earlier = old.get((cell, metric))
        if value is None or value == earlier:
            continue
        change = ""
        if earlier is not None:
            sign = "+" if value > earlier else ""
            change = f" from {format_value(metric, earlier)} ({sign}{format_change(metric, value - earlier)})"
        lines.append(f"moved: {cell} {_SHORT[metric]} {format_value(metric, value)}{change}")
    return "\n".join(lines)


def _main_scores(results: Results) -> dict[tuple[str, str], float | None]:
    rows = [(TOP1, row) for row in results.classification if "architecture" in row]
    rows += [(PSNR, row) for row in results.autoencoders]
    rows += [(CIDER, row) for row in results.captions if row["set"] == "test"]
    return {(str(row["cell"]), metric): row[metric] for metric, row in rows}
