"""Building of networks that params.yaml names: constructor looked up, arguments checked, weights seeded."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, create_model
from torch import nn

from seesay.core.errors import InputError
from seesay.core.settings import PARAMS_FILE, validate
from seesay.params.classification import Architecture
from seesay.seeding import seed_torch

Network = TypeVar("Network", bound=nn.Module)


def construct(
    table: Mapping[str, type[Network]],
    architecture: Architecture,
    *,
    key: str,
    where: str = PARAMS_FILE,
    **sizes: int,
) -> Network:
    """The network `architecture` names in `table`.

    A constructor takes what the data decides (`sizes`) by position or name and what params.yaml decides as keyword-only
    parameters, whose annotations say what is allowed, and whose defaults say what is off where it is absent:
    `Mlp(num_classes: int, image_size: int, *, hidden_sizes: list[int], dropout: float = 0.0)`.
    Raises `InputError` naming the key (`key` is the dotted path of `architecture` in the file `where`) for a name not
    in `table`, an argument that is unknown, missing or of a wrong type, and whatever the constructor refuses.
    """
    if architecture.name not in table:
        raise InputError(f"{where}: {key}.name: got {architecture.name!r}: expected one of {', '.join(sorted(table))}")
    network = table[architecture.name]
    kind = _arguments_model(network)
    checked: BaseModel = validate(architecture.arguments, kind, where=where, prefix=key.split("."))
    arguments = {name: getattr(checked, name) for name in type(checked).model_fields}
    try:
        return network(**sizes, **arguments)
    except InputError as error:
        raise InputError(f"{where}: {key}: {error}") from None


@contextmanager
def seeded_initialisation(seed: int, *names: str) -> Iterator[None]:
    """Weights drawn in the block depend on `seed` and `names` only; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed, "initialisation", *names)
        yield


def load_weights(network: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Copies a checkpoint's weights into `network`; raises `InputError` where names or shapes differ."""
    try:
        network.load_state_dict(dict(state_dict), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise InputError(f"checkpoint: its weights do not fit its architecture: {detail}") from None


def _arguments_model(network: type[nn.Module]) -> type[BaseModel]:
    """A pydantic model of the constructor's keyword-only parameters."""
    hints = get_type_hints(network.__init__, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(network).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return create_model(network.__name__, __config__=ConfigDict(strict=True, extra="forbid"), **fields)
