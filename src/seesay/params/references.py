"""References from one entry of params.yaml to another, made of section and name: `classifiers/resnet9`.

The same text is a path below models/. So dvc.yaml needs only one key and one dependency for a reference that may be to
several sections.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

SCRATCH = "scratch"
"""The `start` of an experiment that starts from random weights."""

WEIGHTS, CLASSIFIERS, CAPTIONERS, FINETUNED = "weights", "classifiers", "captioners", "finetuned"
"""Sections of params.yaml to whose entries a reference may point."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _one_of(*kinds: str) -> Callable[[str], str]:
    """Return a validator of references to the sections `kinds`; `scratch` in it allows a start without a reference."""
    shown = [kind if kind == SCRATCH else f"{kind}/<name>" for kind in kinds]
    expected = " or ".join([", ".join(shown[:-1]), shown[-1]])

    def check(value: str) -> str:
        section, slash, name = value.partition("/")
        if section in kinds and (not slash if section == SCRATCH else _NAME.fullmatch(name)):
            return value
        hint = f": none is now {SCRATCH}" if value == "none" and SCRATCH in kinds else ""
        raise ValueError(f"got {value!r}: expected {expected}{hint}")

    return check


ClassifierStart = Annotated[str, AfterValidator(_one_of(SCRATCH, WEIGHTS, CLASSIFIERS))]
AutoencoderStart = Annotated[str, AfterValidator(_one_of(SCRATCH, CLASSIFIERS))]
CaptionerStart = Annotated[str, AfterValidator(_one_of(SCRATCH, CAPTIONERS))]
FeatureEncoder = Annotated[str, AfterValidator(_one_of(WEIGHTS, CLASSIFIERS, FINETUNED))]
TrainableEncoder = Annotated[str, AfterValidator(_one_of(WEIGHTS, CLASSIFIERS))]


def name_in(section: str, reference: str) -> str | None:
    """Return the name of the entry of `section` that `reference` points to; None if it points elsewhere or nowhere."""
    kind, _, name = reference.partition("/")
    return name if kind == section and name else None
