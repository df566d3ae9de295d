"""Fixtures for all tests: torch on one thread, and the modules that build small images, captions and models."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from filelock import FileLock

pytest_plugins = [
    "tests.fixtures.files",
    "tests.fixtures.images",
    "tests.fixtures.reporting",
    "tests.fixtures.training",
]

SLOWEST = ("tests/pipeline/test_whole_pipeline", "tests/pipeline/test_reruns", "tests/pipeline/test_proofs",
           "tests/proving", "tests/pipeline", "tests/test_jobs", "tests/test_ranks", "tests/test_cluster",
           "tests/tracking", "tests/captioning", "tests/serving")  # fmt: skip


os.environ["DVC_TEST"] = "1"  # DVC starts no process that reports its use or looks for a newer version

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts `make test &`; what tests start inherits it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the tests that take longest first, so that the parallel processes end at the same time."""
    items.sort(key=lambda item: [not item.nodeid.startswith(start) for start in SLOWEST])


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """Restore torch's process-wide settings; small networks gain nothing from a second thread."""
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function that returns a folder which one of the parallel processes fills for all. Tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def contract() -> ModuleType:
    """The contract tests of classifiers. Other tests use their function that builds a small classifier of each kind."""
    path = Path(__file__).parent / "classification/networks/test_classifiers.py"
    spec = importlib.util.spec_from_file_location("contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
