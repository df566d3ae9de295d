import resource
from types import SimpleNamespace

import psutil
import pytest
import torch

from seesay import compute
from seesay.compute import _cores_granted, _memory_granted, configure
from seesay.core.errors import InputError
from seesay.params.training import Runtime

RUNTIME = Runtime(device="cpu", precision="float32", num_threads=1, deterministic=False, compile=True)


@pytest.fixture(autouse=True)
def _settings_of_torch():
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


def configured(**changes):
    return configure(RUNTIME.model_copy(update=changes))


def test_auto_takes_the_first_accelerator_or_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert configured(device="auto").device.type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert configured(device="auto").device.type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert configured(device="auto").device.type == "cuda"


def test_a_device_this_machine_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match=r"runtime\.device: got 'cuda:1': this machine has 0 CUDA devices"):
        configured(device="cuda:1")


def test_auto_precision_follows_the_hardware(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert configured(precision="auto").autocast_dtype is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert configured(precision="auto").autocast_dtype is None
    assert configured(precision="bfloat16").autocast_dtype is torch.bfloat16
    assert configured(precision="float32").autocast_dtype is None


def test_autocast_computes_in_bfloat16_and_float32_does_not():
    weights = torch.ones(2, 2)
    with configured(precision="bfloat16").autocast():
        assert (weights @ weights).dtype == torch.bfloat16
    with configured(precision="float32").autocast():
        assert (weights @ weights).dtype == torch.float32


def test_compiling_is_for_cuda_only(monkeypatch):
    assert not configured(compile=True).compile
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert configured(device="cuda", compile=True).compile
    assert not configured(device="cuda", compile=False).compile


def test_determinism_and_threads_are_set():
    compute = configured(deterministic=True, num_threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == compute.num_threads == 1
    assert not torch.utils.deterministic.fill_uninitialized_memory
    configured(deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_is_described_names_device_precision_and_threads():
    described = configured(precision="bfloat16").describe()
    assert described["device"] == "cpu"
    assert described["precision"] == "bfloat16"
    assert described["num_threads"] == "1"


@pytest.mark.parametrize(("quota", "expected"), [("150000 100000", 1), ("50000 100000", 1), ("max 100000", None)])
def test_a_container_s_quota_bounds_the_threads(tmp_path, quota, expected):
    affinity = _cores_granted(tmp_path)  # no control group there
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert _cores_granted(tmp_path) == (expected or affinity)


def test_the_older_form_of_a_quota_is_read(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert _cores_granted(tmp_path) == 1


@pytest.fixture
def _a_process_of_1_gb(monkeypatch):
    """A process that holds 1 GB, maps 3 GB and has 1.5 GB of data, on a machine of 24 GB, without limits."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=24e9))
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: SimpleNamespace(rss=1e9, vms=3e9, data=1.5e9))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)


@pytest.mark.usefixtures("_a_process_of_1_gb")
@pytest.mark.parametrize(("name", "limit", "left"), [("memory.max", "4000000000", 3e9), ("memory.max", "max", 23e9)])
def test_memory_granted_is_what_a_container_leaves(tmp_path, name, limit, left):
    (tmp_path / name).write_text(limit + "\n")
    assert _memory_granted(tmp_path) == left


@pytest.mark.usefixtures("_a_process_of_1_gb")
@pytest.mark.parametrize(
    ("kind", "limit", "left"),
    [(resource.RLIMIT_AS, 5e9, 2e9), (resource.RLIMIT_DATA, 2e9, 0.5e9), (resource.RLIMIT_DATA, 1e9, 0.0)],
)
def test_memory_granted_is_what_ulimit_leaves(tmp_path, monkeypatch, kind, limit, left):
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (limit if asked == kind else infinite,) * 2)
    assert _memory_granted(tmp_path) == left


def test_a_split_is_held_by_its_share_of_the_memory_that_is_left(monkeypatch):
    monkeypatch.setattr(compute, "_memory_granted", lambda: 2e9)
    here = configured(memory_share=0.25)
    assert here.holds(500_000_000)
    assert not here.holds(500_000_001)
