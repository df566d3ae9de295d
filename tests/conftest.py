"""Fixtures for all tests: torch on one thread, and the modules that build small images, captions and models."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest_plugins = [
    "tests.fixtures.files",
    "tests.fixtures.images",
    "tests.fixtures.reporting",
    "tests.fixtures.training",
]

SLOWEST = ("tests/pipeline/test_whole_pipeline", "tests/pipeline/test_reruns", "tests/pipeline/test_proofs",
           "tests/proving", "tests/pipeline", "tests/test_jobs", "tests/test_ranks", "tests/test_cluster",
           "tests/tracking", "tests/captioning", "tests/serving")  # fmt: skip


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
def contract() -> ModuleType:
    """The contract tests of classifiers. Other tests use their function that builds a small classifier of each kind."""
    path = Path(__file__).parent / "classification/networks/test_classifiers.py"
    spec = importlib.util.spec_from_file_location("contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
