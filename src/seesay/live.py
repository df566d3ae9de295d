"""The table of running stages that `--jobs` keeps at the bottom of a terminal."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from seesay.console import duration

_EPOCH = re.compile(r"epoch (\d+)/(\d+)")


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
        if found := _EPOCH.match(line):
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
