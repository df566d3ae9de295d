"""Images that arrive together are answered together: one thread owns the models and takes what waits as a batch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from seesay.core.errors import InputError
from seesay.images.pixels import Transform
from seesay.serving.captioner import Captioner
from seesay.serving.command import Answers, Speaker
from seesay.serving.predictor import Classifier

Pixels = list[list[np.ndarray]]
"""An image as each transform of each model returns it, uint8 (S, S, 3)."""

WINDOW_SECONDS = 0.005
"""A batch waits this long for images that are still being decoded."""


class Options(BaseModel):
    """What a request asks for."""

    model_config = ConfigDict(extra="forbid")

    top: int = Field(default=5, ge=1, le=1000, description="The number of classes, the most probable ones.")
    captions: int = Field(default=1, ge=1, le=100, description="The number of captions, the best ones.")
    explain: bool = Field(default=False, description="Whether to show where the models looked.")


class Busy(Exception):  # noqa: N818  # a state of the server
    """As many images wait as may wait."""


@dataclass(frozen=True)
class Job:
    pixels: Pixels
    options: Options
    answers: Future[list[Answers]]


class Batcher:
    """A thread that answers images in batches of at most `max_batch`, of at most `max_pending` admitted ones."""

    def __init__(self, models: Sequence[Speaker], *, max_batch: int, max_pending: int) -> None:
        self.models = models
        self.max_batch, self.max_pending = max_batch, max_pending
        self.num_pending = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count an image as waiting, from before it is decoded until it is answered; raises `Busy`."""
        if self.num_pending >= self.max_pending:
            raise Busy
        self.num_pending += 1
        try:
            yield
        finally:
            self.num_pending -= 1

    def submit(self, pixels: Pixels, options: Options) -> Future[list[Answers]]:
        """Return the future answers of each model."""
        job = Job(pixels, options, Future())
        self._jobs.put(job)
        return job.answers

    def close(self) -> None:
        """End the thread, after the batch that it computes."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = [first, *self._waiting()]
            jobs = [job for job in jobs if job.answers.set_running_or_notify_cancel()]
            for explain in (False, True):  # an explanation costs much more
                some = [job for job in jobs if job.options.explain is explain]
                try:
                    found = answer_batch(self.models, [job.pixels for job in some], [job.options for job in some])
                except Exception as error:  # whatever it is, those who wait must hear of it
                    for job in some:
                        job.answers.set_exception(error)
                else:
                    for job, answers in zip(some, found, strict=True):
                        job.answers.set_result(answers)

    def _waiting(self) -> Iterator[Job]:
        """Yield further jobs of a batch; waits only while admitted images are being decoded."""
        end = time.monotonic() + WINDOW_SECONDS
        for taken in range(1, self.max_batch):
            patience = end - time.monotonic() if self.num_pending > taken else 0.0
            try:
                job = self._jobs.get(timeout=patience) if patience > 0 else self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is None:
                self._jobs.put(None)
                return
            yield job


def prepare(models: Sequence[Speaker], image: Image.Image) -> Pixels:
    """Return an RGB image as the models take it."""
    return [[transform.pixels(image) for transform in _transforms(model)] for model in models]


def answer_batch(models: Sequence[Speaker], batch: Sequence[Pixels], options: Sequence[Options]) -> list[list[Answers]]:
    """Return the answers of each model to each image. Whether to explain is the same for all of them."""
    if not batch:
        return []
    explain = options[0].explain
    by_model: list[Sequence[Answers]] = []
    for number, model in enumerate(models):
        pixels = [np.stack(of_transform) for of_transform in zip(*(one[number] for one in batch), strict=True)]
        found: Sequence[Answers]
        if isinstance(model, Classifier):
            found = model.predict(pixels[0], top=max(one.top for one in options), explain=explain)
            found = [classes[: one.top] for classes, one in zip(found, options, strict=True)]
        else:
            most = max(one.captions for one in options)
            found = model.predict(pixels, num_captions=most, explain=explain and model.attends)
            found = [captions[: one.captions] for captions, one in zip(found, options, strict=True)]
        by_model.append(found)
    return [list(of_image) for of_image in zip(*by_model, strict=True)]


def check_options(models: Sequence[Speaker], options: Options) -> None:
    """Raise `InputError` for more captions than a captioner decodes."""
    for model in models:
        if isinstance(model, Captioner) and options.captions > model.max_captions:
            raise InputError(f"captions: got {options.captions}: {model.name} decodes {model.max_captions}")


def shown_regions(models: Sequence[Speaker], size: tuple[int, int]) -> dict[str, list[float]]:
    """Return which part of an image of `size` (width, height) the evidence of each model by name is about.

    The parts are [left, top, width, height] as shares of the image's width and height.
    """
    regions = {}
    for model in models:
        if isinstance(model, Captioner) and not model.attends:
            continue
        transform = model.transform if isinstance(model, Classifier) else model.transforms[model.attended]
        shorter = min(size)
        side = shorter if size[0] == size[1] else shorter * transform.image_size / transform.resize_size
        width, height = (min(side / length, 1.0) for length in size)
        regions[model.name] = [round(share, 5) for share in ((1 - width) / 2, (1 - height) / 2, width, height)]
    return regions


def _transforms(model: Speaker) -> list[Transform]:
    return [model.transform] if isinstance(model, Classifier) else model.transforms
