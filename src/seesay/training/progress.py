"""What a person sees while a model trains: a bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NoReturn

from tqdm import tqdm


class Progress:
    """Reports on stderr; epochs and steps count from 1."""

    def __init__(self, *, num_epochs: int, num_batches: int) -> None:
        self._num_epochs, self._num_batches = num_epochs, num_batches
        self._bar: tqdm[NoReturn] | None = None

    def start(self, epoch: int) -> None:
        if sys.stderr.isatty():
            label = f"epoch {epoch}/{self._num_epochs}"
            self._bar = tqdm(total=self._num_batches, desc=label, unit="batch", leave=False, file=sys.stderr)

    def show(self, num_steps: int, metrics: Mapping[str, float]) -> None:
        """The epoch's first `num_steps` are done and `metrics` are their means."""
        if self._bar is not None:
            self._bar.set_postfix_str(_compact(metrics), refresh=False)
            self._bar.update(num_steps - self._bar.n)

    def finish(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.close()
        sys.stderr.write(f"epoch {epoch}/{self._num_epochs}: {_compact(metrics)}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _compact(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:.4g}" for name, value in metrics.items())
