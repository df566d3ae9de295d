"""Registry of the captioner architectures; building one, restoring one from a checkpoint, and ensembles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from seesay.captioning.networks.attention_captioners import Att2InCaptioner, SoftAttentionCaptioner, UpDownCaptioner
from seesay.captioning.networks.base import Captioner, Memory, State
from seesay.captioning.networks.recurrent import GRUCaptioner, LSTMCaptioner
from seesay.captioning.networks.transformer import TransformerCaptioner
from seesay.core.errors import InputError
from seesay.core.settings import CellName, validate
from seesay.params.classification import ENSEMBLE, Architecture
from seesay.training.build import construct, restore, seeded_initialisation
from seesay.training.checkpoint import Checkpoint, DescribedArchitecture, Size

CAPTIONERS: dict[str, type[Captioner]] = {
    "lstm": LSTMCaptioner,
    "gru": GRUCaptioner,
    "soft_attention": SoftAttentionCaptioner,
    "att2in": Att2InCaptioner,
    "updown": UpDownCaptioner,
    "transformer": TransformerCaptioner,
}


class LearnedFrom(BaseModel):
    """The data of a captioner, by name, as its settings in a checkpoint say it."""

    model_config = ConfigDict(strict=True, extra="ignore")

    datasets: Annotated[list[CellName], Field(min_length=1)]
    vocabulary: CellName
    features: Annotated[list[CellName], Field(min_length=1)]


def learned_from(checkpoint: Checkpoint) -> LearnedFrom:
    """Return the data that a captioner learned from; raises `InputError` where its checkpoint does not say it."""
    found: LearnedFrom = validate(checkpoint.settings, LearnedFrom, where="checkpoint", prefix=["settings"])
    return found


class Member(BaseModel):
    """A member of an ensemble: what it reads is of `shape`, (D,) or (L, D), in the experiment's features at `input`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    architecture: DescribedArchitecture
    input: int
    shape: list[Size]


class Ensemble(Captioner):
    """A captioner whose logits are the logarithm of its members' mean probabilities.

    Members have the same vocabulary. Its features are its members' side by side, each once, flat (N, F). Its memory,
    state and hidden vectors are its members', one after the other. Its attention is the mean over the members that
    attend to as many positions as the first that attends at all.
    """

    looks_at: Literal["pooled", "grid"]  # type: ignore[misc]

    def __init__(self, members: Sequence[Captioner], described: Sequence[Member]) -> None:
        super().__init__()
        self.vocabulary_size = members[0].vocabulary_size
        self.members = nn.ModuleList(members)
        self.looks_at = "grid" if any(member.looks_at == "grid" for member in members) else "pooled"
        self.described = list(described)
        keys = [(one.input, member.looks_at) for one, member in zip(described, members, strict=True)]
        self._inputs = list(dict.fromkeys(keys))
        self._which = [self._inputs.index(key) for key in keys]
        shapes = dict(zip(keys, (one.shape for one in described), strict=True))
        self._shapes = [shapes[key] for key in self._inputs]
        self._lengths: dict[str, list[int]] = {}  # by what is joined: the members' numbers of tensors or entries

    def inputs(self) -> list[tuple[int, Literal["pooled", "grid"]]]:
        return self._inputs

    def hidden(self, features: Tensor, tokens: Tensor) -> Tensor:
        parts = zip(self._members(), self._split(features), strict=True)
        hidden = [member.hidden(part, tokens) for member, part in parts]
        self._lengths["hidden"] = [part.shape[-1] for part in hidden]
        return torch.cat(hidden, dim=-1)

    def logits(self, hidden: Tensor) -> Tensor:
        parts = torch.split(hidden, self._lengths["hidden"], dim=-1)
        return _mean([member.logits(part) for member, part in zip(self._members(), parts, strict=True)])

    def memory(self, features: Tensor) -> Memory:
        parts = zip(self._members(), self._split(features), strict=True)
        return self._join("memory", [member.memory(part) for member, part in parts])

    def initial_state(self, memory: Memory) -> State:
        parts = zip(self._members(), self._parts("memory", memory), strict=True)
        return self._join("state", [member.initial_state(part) for member, part in parts])

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        parts = zip(self._members(), self._parts("state", state), self._parts("memory", memory), strict=True)
        logits, states = zip(*(member.step(tokens, *part) for member, *part in parts), strict=True)
        return _mean(logits), self._join("state", states)

    def attention(self, features: Tensor, tokens: Tensor) -> Tensor:
        parts = zip(self._members(), self._split(features), strict=True)
        weights = [member.attention(part, tokens) for member, part in parts if member.looks_at == "grid"]
        alike = [one for one in weights if one.shape == weights[0].shape]
        return torch.stack(alike).mean(dim=0)

    def _members(self) -> list[Captioner]:
        return [member for member in self.members if isinstance(member, Captioner)]

    def _split(self, features: Tensor) -> list[Tensor]:
        """Return each member's features."""
        if len(self._inputs) == 1:  # as they are
            return [features] * len(self._which)
        parts = torch.split(features, [math.prod(shape) for shape in self._shapes], dim=1)
        views = [part.reshape(part.shape[0], *shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return [views[which] for which in self._which]

    def _join(self, what: str, parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        self._lengths[what] = [len(part) for part in parts]
        return tuple(tensor for part in parts for tensor in part)

    def _parts(self, what: str, joined: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        ends = torch.tensor(self._lengths[what]).cumsum(0).tolist()
        return [joined[end - length : end] for end, length in zip(ends, self._lengths[what], strict=True)]


def _mean(logits: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean probabilities (..., V) of several captioners' logits."""
    logs = torch.stack([one.float().log_softmax(dim=-1) for one in logits])
    return logs.logsumexp(dim=0) - math.log(len(logs))


def build_captioner(
    architecture: Architecture, *, vocabulary_size: int, feature_size: int, seed: int, key: str
) -> Captioner:
    """Build a captioner over `vocabulary_size` tokens, for features of `feature_size` dimensions.

    Its initial weights depend on `seed` and on the name of the architecture. `key` is the dotted path of `architecture`
    in params.yaml; `InputError` names what is wrong under it.
    """
    with seeded_initialisation(seed, "captioner", architecture.name):
        return construct(CAPTIONERS, architecture, key=key, vocabulary_size=vocabulary_size, feature_size=feature_size)


def restore_captioner(checkpoint: Checkpoint) -> Captioner:
    """Return the trained captioner of `checkpoint`, in evaluation mode.

    Raises `InputError` where the weights do not fit the architecture.
    """
    return restore(lambda: _build_described(checkpoint), checkpoint.state_dict)


def ensemble_of(
    checkpoints: Mapping[str, Checkpoint], features: Sequence[str], *, places: Sequence[int | None]
) -> Checkpoint:
    """Combine checkpoints, by name, of captioners of one vocabulary into the checkpoint of an `Ensemble`.

    The members of ensembles are members of it, with the same weight as the others. `features` are the names of those
    that members read, with the number of their grid's places. It has no settings and metrics of its own. Raises
    `InputError` for members whose vocabulary differs, or whose features are not among `features`.
    """
    members: list[Captioner] = []
    described: list[Member] = []
    first = next(iter(checkpoints.values()))
    for name, checkpoint in checkpoints.items():
        checkpoint.require_vocabulary(first.vocabulary_digest)
        captioner = restore_captioner(checkpoint)
        if missing := [one for one in _features_of(checkpoint, captioner) if one not in features]:
            raise InputError(f"captioners/{name}: reads {missing[0]}: expected one of {', '.join(features)}")
        if isinstance(captioner, Ensemble):
            members += captioner._members()
            names = learned_from(checkpoint).features
            described += [
                one.model_copy(update={"input": features.index(names[one.input])}) for one in captioner.described
            ]
            continue
        position, size = features.index(learned_from(checkpoint).features[0]), checkpoint.sizes["feature_size"]
        num_places = places[position]
        shape = [size] if captioner.looks_at == "pooled" or num_places is None else [num_places, size]
        members.append(captioner)
        described.append(
            Member(architecture=DescribedArchitecture(**checkpoint.architecture), input=position, shape=shape)
        )
    return replace(
        first,
        architecture={"name": ENSEMBLE, "arguments": {"members": [one.model_dump() for one in described]}},
        settings={},
        state_dict=Ensemble(members, described).state_dict(),
        metrics={},
    )


def _features_of(checkpoint: Checkpoint, captioner: Captioner) -> list[str]:
    names = learned_from(checkpoint).features
    return [names[position] for position, _ in captioner.inputs()]


def _build_described(checkpoint: Checkpoint) -> Captioner:
    """Build the captioner that `checkpoint` describes, without its weights."""
    if checkpoint.architecture["name"] != ENSEMBLE:
        return _construct(checkpoint.parsed_architecture, checkpoint.sizes)
    described: list[Member] = validate(
        checkpoint.architecture["arguments"].get("members"),
        list[Member],
        where="checkpoint",
        prefix=["architecture", "arguments", "members"],
    )
    members = []
    for one in described:
        architecture = Architecture(name=one.architecture.name, **one.architecture.arguments)
        members.append(_construct(architecture, {**checkpoint.sizes, "feature_size": one.shape[-1]}))
    return Ensemble(members, described)


def _construct(architecture: Architecture, sizes: Mapping[str, Any]) -> Captioner:
    return construct(CAPTIONERS, architecture, key="architecture", where="checkpoint", **sizes)
