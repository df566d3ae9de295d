"""seesay: train image classifiers and captioners, and record what produced every number, use what was trained.

`__all__` is the public Python API (docs/python.md). Each name is imported when it is first used, so that
`import seesay` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seesay.captioning.coco_eval import COCOEvalCap
    from seesay.captioning.torch_metric import CaptionScores
    from seesay.core.errors import InputError
    from seesay.report.dataframe import results
    from seesay.serving.load import load

__all__ = ["COCOEvalCap", "CaptionScores", "InputError", "load", "results"]

_MODULE_OF = {
    "COCOEvalCap": "seesay.captioning.coco_eval",
    "CaptionScores": "seesay.captioning.torch_metric",
    "InputError": "seesay.core.errors",
    "load": "seesay.serving.load",
    "results": "seesay.report.dataframe",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
