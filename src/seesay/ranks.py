"""Several processes for one stage: their launch by torch's elastic launcher, and how they divide the work.

A stage whose `runtime.processes` is above 1 starts itself again, once per process, on the same machine. A process has a
rank, from 0. Ranks train on slices of the same batches and take turns at the batches of an evaluation; rank 0 alone
writes, logs and records.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, TypeVar

import psutil
import torch
from torch import Tensor, distributed, nn

from seesay.core.errors import InputError
from seesay.core.settings import read_section
from seesay.core.stage import PREFIX, end_with
from seesay.params.training import Runtime

T = TypeVar("T")

LAUNCHER = "SEESAY_LAUNCHER"
"""Variable with words to put before a stage's command, such as `srun --gpus 4`."""

_RUN_ID = "TORCHELASTIC_RUN_ID"  # the launcher sets it in each rank

_GRACE_SECONDS = 5.0
"""How long a rank that fails waits to be ended by the launcher, for what another rank has done."""

_MISSING = object()


@dataclass(frozen=True)
class Ranks:
    """This process's rank, and the number of processes. A process alone is rank 0 of 1, and its calls do nothing."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def stream(self) -> tuple[str | int, ...]:
        """Names to add to those of a random stream that ranks must not share: none for rank 0."""
        return () if self.is_first else ("rank", self.rank)

    def part(self, size: int) -> slice:
        """Return this rank's part of a batch of `size` examples, or the whole batch where it is too small for all."""
        if size < self.count:
            return slice(0, size)
        return slice(size * self.rank // self.count, size * (self.rank + 1) // self.count)

    def turns(self, items: Sequence[T]) -> Sequence[T]:
        """Return every `count`-th of `items`, from this rank's first; `gather` puts results back in order."""
        return items[self.rank :: self.count]

    def gather(self, mine: Sequence[T]) -> list[T]:
        """Return the results of all ranks for `turns`, in the order of the items. Tensors must be on the CPU."""
        if self.count == 1:
            return list(mine)
        parts: list[Any] = [None] * self.count
        distributed.all_gather_object(parts, list(mine))
        rounds = zip_longest(*parts, fillvalue=_MISSING)
        return [value for values in rounds for value in values if value is not _MISSING]

    def from_first(self, value: T) -> T:
        """Return rank 0's value; no rank goes on before rank 0 has got here."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of all ranks' `values`."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def weigh(self, loss: Tensor, weight: float | Tensor) -> Tensor:
        """Scale a mean over `weight` so that the mean of all ranks' gradients is the gradient of the joint mean."""
        if self.count == 1:
            return loss
        own = torch.as_tensor(weight, dtype=torch.float32, device=loss.device)
        return loss * (own * self.count / self.total(own))

    def share_buffers(self, model: nn.Module) -> None:
        """Give all ranks the buffers of rank 0, such as batch-norm statistics, which each rank has of its own."""
        if self.count > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)

    def parallel(self, model: nn.Module, step: Callable[[T], Any]) -> Callable[[T], Any]:
        """Return `step`, which computes a loss with `model`, so that backward passes average the ranks' gradients."""
        if self.count == 1:
            return step
        return nn.parallel.DistributedDataParallel(_Step(model, step))

    def leave_to_first(self) -> None:
        """End this process unless it is rank 0, which alone writes."""
        if not self.is_first:
            sys.exit(0)


ALONE = Ranks()


class _Step(nn.Module):
    """A step as a module, since `DistributedDataParallel` takes no functions and captioners are more than `forward`."""

    def __init__(self, model: nn.Module, step: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model, self._step = model, step

    def forward(self, batch: Any) -> Any:
        return self._step(batch)


def own_ranks() -> Ranks:
    """Return the place of this process among those that the launcher has started."""
    if _RUN_ID not in os.environ:
        return ALONE
    return Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def in_processes(main: Callable[..., None]) -> Callable[..., None]:
    """Return a stage's `main` that runs in as many processes as `runtime.processes` says.

    Of the ranks' messages only those of rank 0 are shown. When a rank is killed or fails, the others are ended, and one
    error names it.
    """

    @wraps(main)
    def launch(*arguments: str) -> None:
        processes = read_section(Path(), "runtime", Runtime).processes
        launcher = shlex.split(os.environ.pop(LAUNCHER, ""))
        if _RUN_ID in os.environ:
            _run_rank(main, arguments, expected=processes)
        elif launcher:
            _replace_by([*launcher, sys.executable, *sys.argv])
        elif processes > 1:
            _launch(processes)
        else:
            main(*arguments)

    return launch


def _replace_by(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise InputError(f"{LAUNCHER}: got {command[0]!r}: {error.strerror}") from None


def _launch(processes: int) -> None:
    """Run this script once per rank, and wait for all of them."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.WARNING)  # the launcher's own account of what is said below
    with TemporaryDirectory(prefix="seesay-ranks-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(logs, redirects=dict.fromkeys(range(1, processes), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)(*sys.argv)
        except SignalException as received:
            sys.exit(128 + received.sigval)  # rank 0 has said how far it was
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode < 0:
                name = signal.Signals(-failure.exitcode).name
                hint = ", as the system does where memory runs out" if name == "SIGKILL" else ""
                raise InputError(
                    f"rank {rank} of {processes} was killed by {name}{hint}; run again to resume"
                ) from None
            if rank == 0:
                sys.exit(failure.exitcode)  # it has said why
            said = next(Path(logs).glob(f"*/*/{rank}/stderr.log")).read_text(errors="replace").splitlines()
            errors = [line.removeprefix(PREFIX) for line in said if line.startswith(PREFIX)] or said[-20:]
            raise InputError("\n".join([f"rank {rank} of {processes} failed:", *errors])) from None


def _run_rank(main: Callable[..., None], arguments: Sequence[str], *, expected: int) -> None:
    ranks = own_ranks()
    if ranks.count != expected:
        raise InputError(f"runtime.processes: got {expected}: expected {ranks.count}, as many as were started")
    if ranks.count == 1:
        main(*arguments)
        return
    end_with([psutil.Process(os.getppid())])
    # All ranks are on one machine, whose name need not have an address.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(days=1))  # ranks wait for what rank 0 does alone
    try:
        main(*arguments)
    except Exception as error:
        # A rank sees a RuntimeError when another one has ended, and what is wrong for all is for rank 0 to say.
        if isinstance(error, RuntimeError) or not ranks.is_first:
            time.sleep(_GRACE_SECONDS)
        raise
    finally:
        distributed.destroy_process_group()
