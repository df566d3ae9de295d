"""How a section of params.yaml becomes a frozen typed value, and how a wrong one is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML, YAMLError

from seesay.errors import InputError

T = TypeVar("T")

PARAMS_FILE = "params.yaml"


class Settings(BaseModel):
    """A section of params.yaml: frozen; unknown keys and wrong types are refused; no key has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


CellName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""Names of cells become file names, DVC stage names and MLflow run names."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
NaturalInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_as_tuple)
"""YAML has lists, frozen settings have tuples: `Annotated[tuple[X, ...], AsTuple]`."""


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file (as DVC reads it: `1e-3` is a number)."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    return content


def read_section(root: Path, key: str, kind: type[T] | Any) -> T:
    """The part of params.yaml under the dotted `key`, validated as `kind`.

    Raises `InputError` naming the key's full path, the value and what is allowed.
    """
    path = root / PARAMS_FILE
    value: Any = read_yaml(path)
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            allowed = f"; there is: {', '.join(map(str, value))}" if isinstance(value, Mapping) and value else ""
            raise InputError(f"{path}: no key '{'.'.join([*walked, part])}'{allowed}")
        value = value[part]
        walked.append(part)
    return validate(value, kind, where=str(path), prefix=walked)


def validate(value: Any, kind: type[T] | Any, *, where: str, prefix: Iterable[str | int] = ()) -> T:
    """`value` as `kind`, or an `InputError` that lists each wrong key with its path, value and what is allowed."""
    try:
        checked: T = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        lines = [_explain(problem, list(prefix), kind) for problem in error.errors(include_url=False)]
        raise InputError("\n".join(f"{where}: {line}" for line in lines)) from None
    return checked


def _explain(problem: Any, prefix: list[str | int], kind: Any) -> str:
    location = [part for part in problem["loc"] if part != "[key]"]
    key = ".".join(map(str, [*prefix, *location])) or "(top level)"
    match problem["type"]:
        case "extra_forbidden":
            allowed = _fields_at(kind, location[:-1])
            return f"{key}: unknown key" + (f"; allowed here: {', '.join(allowed)}" if allowed else "")
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return f"{key}: {problem['ctx']['error']}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: got {problem['input']!r}: {message}"


def _fields_at(kind: Any, location: list[str | int]) -> list[str]:
    """The keys allowed at a location inside `kind`, where that can be told from the type."""
    schema = TypeAdapter(kind).json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: Any) -> Any:
        return definitions[node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node

    node = resolve(schema)
    for part in location:
        branches = [resolve(branch) for branch in node.get("anyOf", node.get("oneOf", [node]))]
        following: Any = None
        for branch in branches:
            tagged = [field.get("const") for field in branch.get("properties", {}).values() if "const" in field]
            if part in tagged:
                following = branch
            elif part in branch.get("properties", {}):
                following = branch["properties"][part]
            elif isinstance(branch.get("additionalProperties"), dict):
                following = branch["additionalProperties"]
        if following is None:
            return []
        node = resolve(following)
    branches = [resolve(branch) for branch in node.get("anyOf", [node])]
    return sorted({name for branch in branches for name in branch.get("properties", {})})
