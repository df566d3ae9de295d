"""Building a network from params.yaml: constructor lookup, argument checks, seeded initial weights, and its cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, create_model
from torch import nn
from torch.overrides import TorchFunctionMode

from seesay.core.errors import InputError, did_you_mean
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
    """Build the network that `architecture` names in `table`.

    A constructor takes the values that follow from the data (`sizes`) as positional-or-keyword parameters. Values from
    params.yaml are keyword-only parameters, validated against their annotations; their defaults are what an absent key
    means: `Mlp(num_classes: int, image_size: int, *, hidden_sizes: list[int], dropout: float = 0.0)`.

    Raises `InputError` for a name not in `table`, for an argument that is unknown, missing or of the wrong type, and
    for whatever the constructor refuses. The message names the key: `key` is the dotted path of `architecture` in the
    file `where`.
    """
    if architecture.name not in table:
        names = sorted(table)
        expected = f"expected one of {', '.join(names)}{did_you_mean(architecture.name, names)}"
        raise InputError(f"{where}: {key}.name: got {architecture.name!r}: {expected}")
    constructor = table[architecture.name]
    model = _arguments_model(constructor)
    validated: BaseModel = validate(architecture.arguments, model, where=where, prefix=key.split("."))
    arguments = {name: getattr(validated, name) for name in type(validated).model_fields}
    try:
        return constructor(**sizes, **arguments)
    except InputError as error:
        raise InputError(f"{where}: {key}: {error}") from None


@contextmanager
def seeded_initialisation(seed: int, *names: str) -> Iterator[None]:
    """Make weights initialised in the block depend on `seed` and `names` only.

    torch's global generator is restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed, "initialisation", *names)
        yield


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Give networks built in the block shapes, but neither memory nor initial values.

    torch's meta device alone would compute initial values without memory, for which it imports its compiler (seconds).
    """
    with torch.device("meta"), _WithoutFilling():
        yield


class _WithoutFilling(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _FILLING:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


_FILLING = {getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")}
_FILLING |= {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_, torch.Tensor.fill_, torch.Tensor.zero_}
"""Functions that fill a tensor in place, which is their first argument."""


def restore(build: Callable[[], Network], state_dict: Mapping[str, torch.Tensor]) -> Network:
    """Return the network that `build` builds, with a checkpoint's weights, in evaluation mode.

    Raises `InputError` where names or shapes differ, before any memory is used for a network of absurd size.
    """
    try:
        with shapes_alone():
            outline = build()
    except (TypeError, RuntimeError) as error:  # sizes that the constructor does not know or that torch refuses
        detail = " ".join(str(error).split())[:200]
        raise InputError(f"checkpoint: its architecture cannot be built: {detail}") from None
    if misfit := find_misfit(outline.state_dict(), state_dict):
        raise InputError(f"checkpoint: its weights do not fit its architecture: {misfit}")
    network = build()
    load_weights(network, state_dict)
    return network.eval()


def find_misfit(expected: Mapping[str, torch.Tensor], actual: Mapping[str, torch.Tensor]) -> str:
    """Return the first difference in names and shapes between two state dicts, or an empty string."""
    for name, tensor in expected.items():
        if name not in actual:
            if not name.endswith("num_batches_tracked"):  # published files older than this counter lack it
                return f"{name} is missing"
        elif actual[name].shape != tensor.shape:
            return f"{name} has shape {tuple(actual[name].shape)}, expected {tuple(tensor.shape)}"
    unknown = [name for name in actual if name not in expected]
    return f"{unknown[0]} is unknown" if unknown else ""


def load_weights(network: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Copy a checkpoint's weights into `network`; raise `InputError` where names or shapes differ."""
    try:
        network.load_state_dict(dict(state_dict), strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise InputError(f"checkpoint: its weights do not fit its architecture: {detail}") from None


def _arguments_model(constructor: type[nn.Module]) -> type[BaseModel]:
    """Return a pydantic model of the constructor's keyword-only parameters."""
    hints = get_type_hints(constructor.__init__, include_extras=True)
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(constructor).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return create_model(constructor.__name__, __config__=ConfigDict(strict=True, extra="forbid"), **fields)


def count_flops(network: nn.Module, *, image_size: int, backward: bool = False) -> int:
    """Count the floating-point operations of one image's forward pass, two per multiply-add, with PyTorch's counter.

    With `backward`, those of the backward pass to the parameters that are trained are added.
    """
    from torch.utils.flop_counter import FlopCounterMode  # a slow import, needed by trainings alone

    was_training = network.training
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        outputs = network.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
        if backward:
            outputs.sum().backward()
            network.zero_grad()
    network.train(was_training)
    return int(counter.get_total_flops())
