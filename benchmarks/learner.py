"""An experiment's network that trains on any batches and measures the time it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seesay.classification.networks.registry import build_classifier
from seesay.compute import Compute
from seesay.images.batches import Batch
from seesay.images.packed import PackedImages
from seesay.params.classification import Classifier
from seesay.training.optim import MovingAverage, build_optimizer, learning_rate_at, set_learning_rate, take_step


@dataclass
class Measurement:
    """The time taken by some batches of training.

    Waiting is the time between requesting and receiving a batch. Core-seconds are the processor time of this process
    and its workers, which depends little on other load on the machine.
    """

    num_images: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    core_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        return self.num_images / self.seconds

    @property
    def waiting_share(self) -> float:
        return self.waiting_seconds / self.seconds

    @property
    def core_milliseconds_per_image(self) -> float:
        return 1000.0 * self.core_seconds / self.num_images

    def add(self, other: Measurement) -> None:
        self.num_images += other.num_images
        self.seconds += other.seconds
        self.waiting_seconds += other.waiting_seconds
        self.core_seconds += other.core_seconds


class Learner:
    """A new network trained by the steps of `seesay.training.loop.fit`.

    This includes the schedule, mixed precision, gradient clipping and the moving average.
    """

    def __init__(
        self, cell: str, settings: Classifier, images: PackedImages, *, num_steps: int, seed: int, compute: Compute
    ) -> None:
        assert settings.training is not None, "only an ensemble has none"
        self._training, self._smoothing, self._compute = settings.training, settings.label_smoothing, compute
        network = build_classifier(
            settings.architecture,
            num_classes=images.num_classes,
            image_size=images.image_size,
            seed=seed,
            key=f"classifiers.{cell}.architecture",
        )
        self._network = compute.place(network)
        self._run = torch.compile(self._network) if compute.compile else self._network
        fused = compute.device.type == "cuda"
        self._optimizer = build_optimizer(self._network, settings.training.optimizer, fused=fused)
        average = settings.training.moving_average
        self._average = None if average is None else MovingAverage(self._network, average)
        self._num_steps, self._step = num_steps, 0

    @property
    def evaluated_network(self) -> nn.Module:
        """The network for validation: that of the moving average, if the experiment has one."""
        return self._network if self._average is None else self._average.model

    def train(self, batches: Iterator[Batch]) -> Measurement:
        """Train on all of `batches`, timed from the request for the first batch to the end of the last step."""
        self._network.train()
        measurement, cores, started = Measurement(), _core_seconds(), time.perf_counter()
        while True:
            requested = time.perf_counter()
            batch = next(batches, None)
            measurement.waiting_seconds += time.perf_counter() - requested
            if batch is None:
                break
            self._train_step(*batch)
            measurement.num_images += len(batch[1])
        if self._compute.device.type == "cuda":
            torch.cuda.synchronize(self._compute.device)
        measurement.seconds = time.perf_counter() - started
        measurement.core_seconds = _core_seconds() - cores
        return measurement

    def _train_step(self, images: Tensor, labels: Tensor) -> None:
        rate = learning_rate_at(
            self._step,
            num_steps=self._num_steps,
            peak=self._training.optimizer.learning_rate,
            schedule=self._training.schedule,
        )
        set_learning_rate(self._optimizer, rate)
        with self._compute.autocast():
            loss = F.cross_entropy(self._run(images), labels, label_smoothing=self._smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        take_step(self._network, self._optimizer, max_gradient_norm=self._training.max_gradient_norm)
        self._step += 1
        if self._average is not None:
            self._average.update(self._network, step=self._step)


def _core_seconds() -> float:
    """Return the processor time so far of all threads and of the running worker processes."""
    worker_times = [process.cpu_times() for process in psutil.Process().children()]
    return time.process_time() + sum(times.user + times.system for times in worker_times)
