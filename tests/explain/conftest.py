"""One thread, and the contract test's way of building a small classifier of each kind."""

import importlib.util
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def contract():
    path = Path(__file__).parents[1] / "models/test_classifiers.py"
    spec = importlib.util.spec_from_file_location("contract", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
