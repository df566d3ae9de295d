"""seesay: train image classifiers and captioners, record what produced every number, and use what was trained."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seesay.core.errors import InputError as InputError
    from seesay.serving.load import load as load

_PUBLIC = {"InputError": "seesay.core.errors", "load": "seesay.serving.load"}
"""The module of each public name, imported when it is first used: `import seesay` alone takes no time."""

__all__ = ["InputError", "load"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'seesay' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
