"""The code that each stage depends on, by folder. Run as a script (`make deps`), this module updates dvc.yaml.

The unit of change is a package folder. A cheap stage lists the folders of the modules that it imports, directly or
indirectly. An expensive stage lists no code: it depends on its proof, and the `prove_*` stages list the code of the
stages they prove. Imports inside functions count. Imports under `if TYPE_CHECKING` do not, since they are never
executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "seesay"

PLUMBING = ("core", "tracking")
"""Packages that cannot change a number, as import-linter ensures. No stage depends on them."""

PROVED = {
    "prove_classifiers": ["train_classifier"],
    "prove_autoencoders": ["train_autoencoder", "train_classifier"],
    "prove_features": ["extract_features"],
    "prove_captioners": ["train_captioner"],
    "prove_encoders": ["finetune_encoder"],
}
"""The expensive stages behind each proof, by the stage that makes it, and the stages that make their inputs."""

NUMERICAL = {"PIL", "captum", "cv2", "numpy", "scipy", "sklearn", "torch", "torchmetrics", "torchvision"}
"""Libraries whose version can change a number. Stages that import one depend on requirements.lock."""


def imported_names(path: Path) -> Iterator[str]:
    """Yield every dotted name that a file imports."""
    for node in _executed_in(path.read_text(encoding="utf-8")):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                raise AssertionError(f"{path}: relative imports are not used here")


def import_closure(scripts: Iterable[Path], source_root: Path) -> set[Path]:
    """Return all modules of the package that `scripts` can execute, except `__init__.py` (docstrings, lazy names)."""
    found: set[Path] = set()
    todo = list(scripts)
    while todo:
        for name in imported_names(todo.pop()):
            file = source_root.joinpath(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] == PACKAGE and file.is_file() and file not in found:
                found.add(file)
                todo.append(file)
    return found


def folders_of(modules: Iterable[Path], package_root: Path) -> list[str]:
    """Return the folders of `modules`, without plumbing and without folders inside other listed folders.

    Modules directly under the package are listed themselves.
    """
    units = set()
    for module in modules:
        relative = module.relative_to(package_root)
        if relative.parts[0] not in PLUMBING:
            units.add(relative if len(relative.parts) == 1 else relative.parent)
    return sorted(unit.as_posix() for unit in units if not set(unit.parents) & units)


def expected_code(stage: str, root: Path = ROOT) -> list[str]:
    """Return the code in a stage's `deps`: requirements.lock, scripts, then folders in alphabetical order."""
    if stage in {proved for stages in PROVED.values() for proved in stages}:
        return []
    script = "prove" if stage in PROVED else stage
    scripts = [root / f"stages/{name}.py" for name in (script, *PROVED.get(stage, []))]
    closure = import_closure(scripts, root / "src")
    libraries = {name.split(".")[0] for file in (*scripts, *closure) for name in imported_names(file)}
    return [
        *(["requirements.lock"] if libraries & NUMERICAL else []),
        *(script.relative_to(root).as_posix() for script in scripts),
        *(f"src/{PACKAGE}/{unit}" for unit in folders_of(closure, root / "src" / PACKAGE)),
    ]


def is_code(dependency: str) -> bool:
    return dependency == "requirements.lock" or dependency.startswith(("src/", "stages/"))


@cache
def _executed_in(text: str) -> tuple[ast.AST, ...]:
    return tuple(_executed(ast.parse(text)))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


def with_code(text: str, root: Path = ROOT) -> str:
    """Return the text of dvc.yaml with updated `deps`: each stage's data in their listed order, then its code."""
    lines = iter(text.splitlines())
    written: list[str] = []
    stage, indent = "", ""
    for line in lines:
        if found := re.match(r"  (\w+):$", line):
            stage = found[1]
        if found := re.match(r"( +)deps:", line):
            indent = found[1]
            block = [line]
            while not block[-1].endswith("]"):
                block.append(next(lines))
            listed = YAML(typ="safe").load("\n".join(block))["deps"]
            data = [dependency for dependency in listed if not is_code(dependency)]
            written += [f"{indent}deps:", *_wrapped(data, expected_code(stage, root), indent + "  ")]
        else:
            written.append(line)
    return "\n".join(written) + "\n"


def _wrapped(data: list[str], code: list[str], indent: str) -> list[str]:
    """Return a YAML list in brackets, with at most 120 characters per line. Data and code begin on separate lines."""
    lines: list[str] = []
    for group in (data, code):
        line = ""
        for dependency in group:
            item = f'"{dependency}",' if "{" in dependency else f"{dependency},"
            if line and len(f"{indent} {line} {item}") > 120:
                lines.append(line)
                line = ""
            line = f"{line} {item}".strip()
        lines += [line] if line else []
    lines[-1] = lines[-1].removesuffix(",") + "]"
    return [f"{indent}{'[' if position == 0 else ' '}{line}" for position, line in enumerate(lines)]


def main() -> None:
    path = ROOT / "dvc.yaml"
    path.write_text(with_code(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
