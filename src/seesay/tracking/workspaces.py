"""Which repository a workspace belongs to: the demo and DVC's experiments work in copies inside it."""

from __future__ import annotations

from pathlib import Path


def find_main_repository(root: Path) -> Path:
    """The repository whose store a workspace uses: its own, unless it is a copy inside another.

    `dvc exp run --temp` and `--queue` work in `<main>/.dvc/tmp/exps/...`, the demo in `<main>/.work/...`.
    """
    root = root.resolve()
    for parent in reversed(root.parents):
        inside = root.relative_to(parent).parts
        is_copy = inside[:3] == (".dvc", "tmp", "exps") or inside[0] == ".work"
        if is_copy and ((parent / ".dvc").exists() or (parent / "dvc.yaml").exists()):
            return parent
    return root


def workspace_name(root: Path) -> str:
    """A workspace's path inside the main repository: "." or, for the demo, `.work/demo`."""
    root = root.resolve()
    return root.relative_to(find_main_repository(root)).as_posix()
