"""Which models are released and how they enter MLflow's registry (written next)."""

from pathlib import Path
from typing import Any


def register_models(root: Path, entries: list[dict[str, Any]]) -> int:
    return 0
