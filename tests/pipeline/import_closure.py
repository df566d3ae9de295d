"""Which modules of the package a stage imports, directly or not; run as a script (`make deps`) it writes dvc.yaml.

Imports inside functions count; imports under `if TYPE_CHECKING` do not, since they are never executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "seesay"
# What is read but not imported: module -> file or folder.
READ_BESIDE = {"src/seesay/report/page.py": "src/seesay/reporting/templates"}


def imported_modules(path: Path, source_root: Path) -> Iterator[Path]:
    """The package's files that one file names in its imports."""
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom(level=0, module=str(module)):
                names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            case ast.ImportFrom():
                raise AssertionError(f"{path}: relative imports are not used here")
            case _:
                continue
        for name in names:
            if name.split(".")[0] == PACKAGE:
                file = source_root.joinpath(*name.split(".")).with_suffix(".py")
                if file.is_file():
                    yield file


def import_closure(script: Path, source_root: Path) -> set[Path]:
    """All files of the package that running `script` can execute, apart from package docstrings (`__init__.py`)."""
    found: set[Path] = set()
    todo = [script]
    while todo:
        for file in imported_modules(todo.pop(), source_root):
            if file not in found:
                found.add(file)
                todo.append(file)
    return found


def expected_code(stage: str, root: Path = ROOT) -> list[str]:
    """What dvc.yaml must list for a stage: its script, then its closure in alphabetical order."""
    script = root / "stages" / f"{stage}.py"
    closure = sorted(file.relative_to(root).as_posix() for file in import_closure(script, root / "src"))
    read = [READ_BESIDE[name] for name in closure if name in READ_BESIDE]
    return [script.relative_to(root).as_posix(), *sorted(closure + read)]


def is_code(dependency: str) -> bool:
    return dependency.endswith(".py") or dependency.startswith("src/")


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


def main() -> None:
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = ROOT / "dvc.yaml"
    pipeline = yaml.load(path)
    for name, stage in pipeline["stages"].items():
        body = stage.get("do", stage)
        data = [dependency for dependency in body.get("deps", []) if not is_code(dependency)]
        body["deps"] = data + expected_code(name)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(pipeline, file)


if __name__ == "__main__":
    main()
