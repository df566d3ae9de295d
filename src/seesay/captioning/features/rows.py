"""Feature arrays that are written batch by batch, so that an interrupted extraction can resume."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from seesay.arrays import read_array
from seesay.core.errors import InputError
from seesay.core.files import read_json, write_json

PROGRESS_FILE = "progress.json"

SECONDS_BETWEEN = 1.0
"""Seconds between two flushes: a killed process loses at most this much work."""


class FeatureRows:
    """The float16 arrays `pooled.npy` and, optionally, `grid.npy` in a scratch folder while they are being filled.

    `shapes` maps each kind of array to its full shape. `fingerprint_parts` are all the inputs on which the rows depend:
    arrays already in the folder are continued if they have the same inputs, and overwritten otherwise. `names` lists
    the images in the order of the rows, for error messages.
    """

    def __init__(
        self,
        folder: Path,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        fingerprint_parts: Sequence[str],
        names: Sequence[str],
    ) -> None:
        self.folder = folder
        self._shapes = dict(shapes)
        self._names = names
        text = "\n".join([*fingerprint_parts, repr(sorted(self._shapes.items()))])
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._num_done = self._read_progress()
        if self._num_done == 0:
            self._create()
        # Finished arrays may be links to files in DVC's cache, which are read-only.
        mode: Literal["r", "r+"] = "r" if self._num_done == self._shapes["pooled"][0] else "r+"
        self._arrays = {kind: np.load(self.path(kind), mmap_mode=mode, allow_pickle=False) for kind in self._shapes}
        self._num_flushed, self._flushed_at = self._num_done, time.monotonic()

    @property
    def num_done(self) -> int:
        return self._num_done

    def path(self, kind: str) -> Path:
        return self.folder / f"{kind}.npy"

    def write(self, start: int, features: Mapping[str, np.ndarray]) -> None:
        """Write the next rows, beginning at `start`, and flush them if the last flush is `SECONDS_BETWEEN` seconds ago.

        Raises `InputError` that names the images with features that are not finite in float16.
        """
        assert start == self._num_done, (start, self._num_done)
        assert set(features) == set(self._arrays), set(features)
        for kind, values in features.items():
            with np.errstate(over="ignore"):
                halves = values.astype(np.float16)
            finite = np.isfinite(halves).reshape(len(halves), -1).all(axis=1)
            if not finite.all():
                bad = [self._names[start + int(row)] for row in np.flatnonzero(~finite)]
                raise InputError(f"{kind} features are not finite in float16 for these images: {', '.join(bad[:5])}")
            self._arrays[kind][start : start + len(halves)] = halves
        self._num_done = start + len(features["pooled"])
        if time.monotonic() - self._flushed_at >= SECONDS_BETWEEN:
            self.flush()

    def flush(self) -> None:
        """Flush all rows to disk, and only then write their number."""
        if self._num_flushed == self._num_done:
            return
        for array in self._arrays.values():
            assert isinstance(array, np.memmap)
            array.flush()
        write_json(self.folder / PROGRESS_FILE, {"fingerprint": self._fingerprint, "num_rows": self._num_done})
        self._num_flushed, self._flushed_at = self._num_done, time.monotonic()

    def finish(self) -> dict[str, Path]:
        """Return the files of the complete arrays by kind."""
        assert self._num_done == self._shapes["pooled"][0], (self._num_done, self._shapes)
        self.flush()
        return {kind: self.path(kind) for kind in self._shapes}

    def _read_progress(self) -> int:
        path = self.folder / PROGRESS_FILE
        if not path.exists():
            return 0
        try:
            progress = read_json(path)
            if progress["fingerprint"] != self._fingerprint:
                warnings.warn(f"{path}: belongs to another extraction; starting over", stacklevel=3)
                return 0
            for kind, shape in self._shapes.items():
                array = read_array(self.path(kind), mmap=True)
                if array.dtype != np.float16 or array.shape != shape:
                    raise InputError(f"{self.path(kind)}: got {array.dtype} {array.shape}: expected float16 {shape}")
            return int(progress["num_rows"])
        except (InputError, KeyError, TypeError, ValueError) as error:
            warnings.warn(f"{path}: unusable ({error}); starting over", stacklevel=3)
            return 0

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / PROGRESS_FILE).unlink(missing_ok=True)  # before the arrays that it describes are overwritten
        for kind, shape in self._shapes.items():
            self.path(kind).unlink(missing_ok=True)  # it may be a link to a file in DVC's cache
            array = np.lib.format.open_memmap(self.path(kind), mode="w+", dtype=np.float16, shape=shape, version=(1, 0))
            del array


def link_array(source: Path, target: Path) -> None:
    """Hard-link a finished array to `target`, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
