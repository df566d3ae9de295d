"""Device, precision, threads and determinism of a process, determined once from the machine and the params."""

from __future__ import annotations

import os
import resource
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from torch import nn

from seesay.core.errors import InputError
from seesay.params.training import Runtime
from seesay.ranks import ALONE, Ranks, own_ranks

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """The settings that `configure` chose and applied."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    num_threads: int
    deterministic: bool
    compile: bool
    ranks: Ranks = ALONE
    sync_batch_norm: bool = False
    memory_share: float = 1.0

    @property
    def channels_last(self) -> bool:
        """True where convolutions run faster on channels-last tensors: on GPUs, and on CPUs through oneDNN."""
        return self.device.type in ("cpu", "cuda")

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context of mixed precision, or an empty one where `autocast_dtype` is None."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def place(self, network: Network) -> Network:
        """Move `network` to the device, with 4-d weights in the memory layout that is fast there."""
        network.to(self.device)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        return network

    def holds(self, num_bytes: int) -> bool:
        """Return whether this much data is to be held in memory, and not read from its file time and again."""
        return num_bytes <= self.memory_share * _memory_of(self.device, self.ranks)

    def describe(self) -> dict[str, str]:
        """Return device, its name, precision, threads and determinism as texts, for run records and tags."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        precision = "float32" if self.autocast_dtype is None else str(self.autocast_dtype).removeprefix("torch.")
        processes = {} if self.ranks.count == 1 else {"processes": str(self.ranks.count)}
        return {
            "device": str(self.device),
            "device_name": name,
            "precision": precision,
            "num_threads": str(self.num_threads),
            "deterministic": str(self.deterministic).lower(),
            **processes,
        }


def configure(runtime: Runtime) -> Compute:
    """Set torch's threads and determinism for this process, and choose device and precision.

    Raises `InputError` where the params ask for a device or a precision that this machine does not have.
    """
    ranks = own_ranks()
    device = _device_of(ranks, find_device(runtime.device, key="runtime.device"), runtime)
    num_threads = max(1, _cores_granted() // ranks.count) if runtime.num_threads == "auto" else runtime.num_threads
    torch.set_num_threads(num_threads)  # more threads than granted cores is up to nine times slower
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    compiled = runtime.compile and device.type == "cuda"  # no gain on CPUs
    if runtime.deterministic and compiled:
        torch.use_deterministic_algorithms(True)
    else:  # the same setting, without the slow import of the compiler (seconds)
        torch.set_deterministic_debug_mode("error" if runtime.deterministic else "default")
    # Filling new tensors with NaN helps to find reads of unset memory, but costs a few percent of every step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Compute(
        device=device,
        autocast_dtype=_autocast_dtype(runtime.precision, device),
        num_threads=num_threads,
        deterministic=runtime.deterministic,
        compile=compiled,
        ranks=ranks,
        sync_batch_norm=runtime.sync_batch_norm and ranks.count > 1,
        memory_share=runtime.memory_share,
    )


def find_device(asked: str, *, key: str = "device") -> torch.device:
    """Return the device of that name; `auto` is the fastest there is. Raises `InputError` for one that is missing."""
    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise InputError(f"{key}: got {asked!r}: expected auto, cpu, cuda, cuda:<number> or mps") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"{key}: got {asked!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"{key}: got {asked!r}: this machine has no MPS device")
    return device


def _device_of(ranks: Ranks, device: torch.device, runtime: Runtime) -> torch.device:
    """Return this rank's device: each rank has a GPU of its own, or its share of the CPU."""
    if ranks.count == 1:
        return device
    if device.type == "mps" or device.index is not None:
        raise InputError(f"runtime.device: got {device}: expected auto, cpu or cuda with runtime.processes above 1")
    if device.type == "cpu":
        if runtime.sync_batch_norm:
            raise InputError("runtime.sync_batch_norm: expected GPUs, since torch has no such batch norm for CPUs")
        return device
    if ranks.count > torch.cuda.device_count():
        got = runtime.processes
        raise InputError(f"runtime.processes: got {got}: this machine has {torch.cuda.device_count()} CUDA devices")
    device = torch.device("cuda", ranks.rank)
    torch.cuda.set_device(device)
    return device


def _memory_of(device: torch.device, ranks: Ranks) -> float:
    """Return the bytes of memory for this rank's data: of its GPU, or its part of the memory that it may use."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return _memory_granted() / ranks.count


def _memory_granted(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes of memory that this process may still take: what its limits leave beside what it holds.

    The limits are the machine's memory, a container's and those of `ulimit`.
    """
    held = psutil.Process().memory_info()
    left = [float(psutil.virtual_memory().total - held.rss)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups: version 2, then version 1
        with suppress(OSError, ValueError):
            left.append(float((cgroup / name).read_text()) - held.rss)
    for kind, of_kind in ((resource.RLIMIT_AS, held.vms), (resource.RLIMIT_DATA, getattr(held, "data", held.rss))):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            left.append(float(limit - of_kind))
    return max(0.0, min(left))


def _autocast_dtype(asked: str, device: torch.device) -> torch.dtype | None:
    if asked == "float32":
        return None
    has_bfloat16 = _has_bfloat16(device)
    if asked == "bfloat16" and not has_bfloat16 and device.type == "mps":
        raise InputError(f"runtime.precision: got {asked!r}: {device} has no bfloat16")
    return torch.bfloat16 if has_bfloat16 or asked == "bfloat16" else None


def _has_bfloat16(device: torch.device) -> bool:
    """Return true where the hardware computes bfloat16. Emulated bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def _cores_granted(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the number of cores this process may use: its affinity, or a container's CPU quota where that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:  # control groups: version 2, then version 1
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return cores
    if quota in ("max", "-1"):
        return cores
    return max(1, min(cores, int(quota) // int(period)))
