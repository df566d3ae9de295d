"""Sections of params.yaml as frozen, typed values, with errors that name every wrong key."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from seesay.core.errors import InputError, did_you_mean, shorten
from seesay.core.files import read_text
from seesay.core.paths import NAME, checked_name

T = TypeVar("T")

PARAMS_FILE = "params.yaml"


class Settings(BaseModel):
    """A section of params.yaml: frozen; unknown keys and wrong types are rejected.

    An absent option is off, and defaults express nothing else: numbers that a run depends on (rates, sizes, epochs,
    seeds) have no default. null means the same as absent, so that an entry can switch off an option of its recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {key: content for key, content in value.items() if content is not None or key not in optional}


CellName = Annotated[str, Field(pattern=f"^{NAME}$")]
"""The name of an experiment."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
NaturalInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


AsTuple = BeforeValidator(_as_tuple)
"""Conversion of YAML's lists to the tuples of frozen settings: `Annotated[tuple[X, ...], AsTuple]`."""


def _as_names(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(f"got {value!r}: expected a list: [{value}]")
    return _as_tuple(value)


AsNames = BeforeValidator(_as_names)
"""`AsTuple` for a list of names: a single name without brackets gets an error that shows how to write it."""

OneOrTwo = Annotated[tuple[CellName, ...], AsNames, Field(min_length=1, max_length=2)]
"""The names of one or two entries."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML 1.2 file, as DVC does: `1e-3` is a number.

    Raises `InputError` if the file is missing, is not valid YAML or contains no mapping.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML 1.2 text. Raises `InputError`, naming `path`, as `read_yaml` does."""
    try:
        content = copy.deepcopy(_load(text))
        num_values = _num_values(content, {})
    except YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{path}: not readable YAML: nested too deeply, or an anchor contains itself") from None
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:  # of a value with a bad tag
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if num_values > MAX_YAML_VALUES:
        raise InputError(f"{path}: its anchors expand to more than {MAX_YAML_VALUES:,} values")
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of sections, got {type(content).__name__}")
    return content


@functools.lru_cache(maxsize=4)
def _load(text: str) -> Any:
    """Parse a YAML 1.2 text once: a stage reads several sections of params.yaml, one after another."""
    return YAML(typ="safe", pure=True).load(text)


MAX_YAML_VALUES = 1_000_000
"""Aliases of aliases can make a short file expand to billions of values, which no walk over them would finish."""


def _num_values(value: Any, counted: dict[int, int]) -> int:
    """Return the number of values inside `value`, where an alias counts as often as it is used."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in counted:
        children = value.values() if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_num_values(child, counted) for child in children)
    return counted[id(value)]


def check_names(params: Mapping[str, Any], *, where: str) -> None:
    """Raise `InputError` for an entry of a section whose name could not be part of a path.

    Entries are the mappings inside the sections; plain settings, such as `seed`, are none.
    """
    for section, entries in params.items():
        for name in entries if isinstance(entries, Mapping) else ():
            if isinstance(entries[name], Mapping):
                try:
                    checked_name(str(name))
                except InputError as error:
                    raise InputError(f"{where}: {section}: {error}") from None


@overload
def read_section(root: Path, key: str, kind: type[T]) -> T: ...
@overload
def read_section(root: Path, key: str, kind: Any) -> Any: ...  # a union of settings is not a type[T]
def read_section(root: Path, key: str, kind: Any) -> Any:
    """Read the part of params.yaml under the dotted `key`, validated as `kind`.

    Raises `InputError` naming the key's full path, the value and the allowed values.
    """
    path = root / PARAMS_FILE
    value: Any = read_yaml(path)
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            names = list(map(str, value)) if isinstance(value, Mapping) else []
            allowed = f": expected one of {', '.join(names)}{did_you_mean(part, names)}" if names else ""
            raise InputError(f"{path}: no key '{'.'.join([*walked, part])}'{allowed}")
        value = value[part]
        walked.append(part)
    return validate(value, kind, where=str(path), prefix=walked)


def validate(value: Any, kind: type[T] | Any, *, where: str, prefix: Iterable[str | int] = ()) -> T:
    """Validate `value` as `kind`.

    Raises `InputError` listing each wrong key with its path, its value and the allowed values.
    """
    try:
        checked: T = TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        start, problems = list(prefix), error.errors(include_url=False)
        unknown = [_key(problem, value, start) for problem in problems if problem["type"] == "extra_forbidden"]
        lines = [
            _explain(problem, value, start, kind)
            for problem in problems
            if problem["type"] != "missing" or not is_successor(_key(problem, value, start), unknown)
        ]
        raise InputError("\n".join(f"{where}: {line}" for line in lines)) from None
    return checked


def _explain(problem: Any, value: Any, prefix: list[str | int], kind: Any) -> str:
    location, key = _location(problem), _key(problem, value, prefix) or "(top level)"
    match problem["type"]:
        case "extra_forbidden":
            if renamed := find_renamed(key):
                return f"{key}: renamed: {renamed.advice}"
            allowed = _fields_at(kind, location[:-1])
            return f"{key}: unknown key; allowed here: {', '.join(allowed)}{did_you_mean(location[-1], allowed)}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return f"{key}: {problem['ctx']['error']}"
        case "union_tag_invalid":
            tag, got, expected = (problem["ctx"][name] for name in ("discriminator", "tag", "expected_tags"))
            suggestion = did_you_mean(got, [name.strip(" '") for name in expected.split(",")])
            return f"{key}.{tag.strip(chr(39))}: got {shorten(got)}: expected one of {expected}{suggestion}"
        case "union_tag_not_found":
            return f"{key}.{problem['ctx']['discriminator'].strip(chr(39))}: missing"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    if problem["type"] == "literal_error":
        message += did_you_mean(problem["input"], problem["ctx"]["expected"].replace("'", "").split(" or "))
    return f"{key}: got {shorten(problem['input'])}: {message}"


def _location(problem: Any) -> list[str | int]:
    return [part for part in problem["loc"] if part != "[key]"]


def _key(problem: Any, value: Any, prefix: list[str | int]) -> str:
    """Return the dotted key that is wrong."""
    missing = problem["type"] == "missing"
    return ".".join(map(str, [*prefix, *_written_keys(value, _location(problem), last_is_missing=missing)]))


def _written_keys(value: Any, location: list[str | int], *, last_is_missing: bool) -> list[str | int]:
    """Return the keys of `location` that are in the file, without the tags of unions that pydantic inserts."""
    keys: list[str | int] = []
    for position, part in enumerate(location):
        if isinstance(value, list):
            inside = isinstance(part, int) and part < len(value)
        else:
            inside = isinstance(value, Mapping) and part in value
        if inside:
            value = value[part]
            keys.append(part)
        elif last_is_missing and position == len(location) - 1:
            keys.append(part)
    return keys


def _fields_at(kind: Any, location: list[str | int]) -> list[str]:
    """Return the keys allowed at a location inside `kind`."""
    schema = TypeAdapter(kind).json_schema()
    nodes = _branches(schema, schema)
    for part in location:
        nodes = [
            branch for node in nodes for following in _following(node, part) for branch in _branches(following, schema)
        ]
    return sorted({name for node in nodes for name in node.get("properties", {})})


def _branches(node: Any, schema: Any) -> list[Any]:
    """Return the alternatives of a JSON schema node, with references resolved."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    alternatives = node.get("anyOf", node.get("oneOf"))
    if alternatives is None:
        return [node]
    return [branch for alternative in alternatives for branch in _branches(alternative, schema)]


def _following(node: Any, part: str | int) -> list[Any]:
    """Return the nodes that `part` leads to: a property, a mapping's value, a list's item or a tagged alternative."""
    properties = node.get("properties", {})
    if part in properties:
        return [properties[part]]
    if any(field.get("const") == part for field in properties.values()):
        return [node]
    mapped = [node.get("additionalProperties"), *node.get("patternProperties", {}).values(), node.get("items")]
    return [following for following in mapped if isinstance(following, dict)]


class Renamed(NamedTuple):
    """A renamed key and advice on its replacement.

    `key` is dotted, and `*` in it stands for any entry. `successor` is the sibling key that replaces it, or "" if there
    is none.
    """

    key: str
    successor: str
    advice: str


RENAMED = (
    Renamed("classifiers.*.initial_weights", "start", "write start: weights/<name>, or start: scratch"),
    Renamed("classifiers.*.built_on", "start", "write start: classifiers/<name>, or start: scratch"),
    Renamed("autoencoders.*.built_on", "start", "write start: classifiers/<name>, or start: scratch"),
    Renamed("captioners.*.learning.built_on", "start", "write start: captioners/<name>, or start: scratch"),
    Renamed("captioners.*.learning.dataset", "datasets", "write datasets: [<name>]"),
    Renamed("captioners.*.learning.also_dataset", "datasets", "write datasets: [<first>, <second>]"),
    Renamed("captioners.*.learning.also_features", "features", "write features: [<of the first>, <of the second>]"),
    Renamed("vocabularies.*.dataset", "datasets", "write datasets: [<name>]"),
    Renamed("vocabularies.*.also_dataset", "datasets", "write datasets: [<first>, <second>]"),
    Renamed("encoders", "weights", "write weights"),
    Renamed("weights.*.weights", "", "write its url and checksum beside architecture, or neither"),
    Renamed("features.*.classifier", "encoder", "write encoder: classifiers/<name>"),
    Renamed("features.*.finetuned", "encoder", "write encoder: finetuned/<name>"),
    Renamed("features.*.network", "", "leave it out: the encoder's folder says it"),
    Renamed("finetuned_encoders", "finetuned", "write finetuned"),
    Renamed("finetuned.*.classifier", "encoder", "write encoder: classifiers/<name>"),
)


def find_renamed(key: str) -> Renamed | None:
    """Return the entry of `RENAMED` for a dotted key that is no longer known, or None."""
    depth = key.count(".")
    return next((one for one in RENAMED if one.key.count(".") == depth and fnmatchcase(key, one.key)), None)


def is_successor(missing: str, unknown: Sequence[str]) -> bool:
    """Return whether a `missing` key replaces one of the `unknown` keys, whose advice already mentions it."""
    where, _, name = missing.rpartition(".")
    renamed = [find_renamed(key) for key in unknown if key.rpartition(".")[0] == where]
    return any(one is not None and one.successor == name for one in renamed)
