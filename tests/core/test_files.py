"""Files land whole or not at all."""

import os
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seesay.arrays import read_array, write_array
from seesay.core.errors import InputError
from seesay.core.files import (
    atomic_directory,
    atomic_path,
    read_json,
    require_own_directory,
    require_writable,
    write_json,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space"), atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with atomic_directory(folder) as temporary:
        (temporary / "x").write_text("1")
    with pytest.raises(RuntimeError), atomic_directory(folder) as temporary:
        (temporary / "y").write_text("2")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["x"]
    assert list(tmp_path.iterdir()) == [folder]


def fill(folder: Path, name: str) -> None:
    with atomic_directory(folder) as temporary:
        (temporary / name).write_text(name)


def test_a_directory_is_whole_while_the_old_one_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "d"
    fill(folder, "old")
    seen: list[list[str]] = []
    remove = shutil.rmtree

    def interrupted(path: Path, **options: bool) -> None:
        seen.append([one.name for one in folder.iterdir()])
        remove(path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fill(folder, "new")
    assert seen[0] == ["new"]
    assert [one.name for one in folder.iterdir()] == ["new"]


def test_a_directory_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "d"
    fill(folder, "old")
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space"):
        fill(folder, "new")
    assert [one.name for one in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_directory_with_files_of_others_is_not_replaced(tmp_path: Path) -> None:
    require_own_directory(tmp_path / "new", {"a"})
    (tmp_path / "a").touch()
    require_own_directory(tmp_path, {"a", "b"})
    (tmp_path / "link").symlink_to(tmp_path)
    for path in (tmp_path, tmp_path / "a", tmp_path / "link"):
        with pytest.raises(InputError, match=f"^{path}: expected a new folder, or one with no more than a, b$"):
            require_own_directory(path, {"b", "a"})


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "new", tmp_path / "new/and/deeper"):
        require_writable(path, option="--out")
    with pytest.raises(InputError, match=f"^--out: {tmp_path}: is a folder; expected a file$"):
        require_writable(tmp_path, option="--out")
    below = tmp_path / "file/x"
    with pytest.raises(InputError, match=f"^--out: {below}: cannot be written: Not a directory$"):
        require_writable(below, option="--out")
    with pytest.raises(InputError, match=f"^{below}: cannot be written: Not a directory$"):
        require_own_directory(below, set())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{tmp_path}'$"):
        write_text(tmp_path, "text")


def test_an_interrupt_removes_the_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "a"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "b", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"a": [1.5, None], "b": 1}


def test_a_written_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY garbage", b"not an array at all"])
def test_a_damaged_array_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npy: not a readable"):
        read_array(path)


def test_a_truncated_array_is_refused_memory_mapped_too(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    write_array(path, np.arange(1000))
    path.write_bytes(path.read_bytes()[:-100])
    for mmap in (False, True):
        with pytest.raises(InputError, match=r"x\.npy"):
            read_array(path, mmap=mmap)


def test_bad_json_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(InputError, match=r"x\.json: not valid JSON, line 2 column 6"):
        read_json(path)
    with pytest.raises(InputError, match=r"nothing\.json: no such file"):
        read_json(tmp_path / "nothing.json")


def test_what_a_killed_process_left_is_removed_by_the_next_a_day_later(tmp_path: Path) -> None:
    left = [".a.0123abcd.txt", ".a.0123abce.txt", ".b.0123abcd", ".a.other.txt", ".a.0123abcd.json"]
    for name in left:
        path = tmp_path / name
        if name.startswith(".b"):
            path.mkdir()
            (path / "part").touch()
        else:
            path.touch()
        if name != ".a.0123abce.txt":  # still being written
            os.utime(path, (1, 1))
    write_text(tmp_path / "a.txt", "whole")
    with atomic_directory(tmp_path / "b"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b", *left[1:2], *left[3:]}


@pytest.mark.parametrize("write", [atomic_path, atomic_directory])
@pytest.mark.parametrize("name", ["resnet9", "resnet9.json"])
def test_neither_git_nor_dvc_sees_an_unfinished_file(tmp_path: Path, write: Any, name: str) -> None:
    with write(tmp_path / name) as unfinished:
        for ignored in (".gitignore", ".dvcignore"):
            lines = (ROOT / ignored).read_text(encoding="utf-8").splitlines()
            assert any(fnmatchcase(unfinished.name, line) for line in lines)
            assert not any(fnmatchcase(other, line) for other in (name, ".0123abcd") for line in lines)


@pytest.mark.parametrize(("write", "create"), [(atomic_path, "touch"), (atomic_directory, "mkdir")])
def test_an_interruption_while_the_file_is_created_leaves_nothing(tmp_path, monkeypatch, write, create):
    original = getattr(Path, create)

    def interrupted(path, *arguments, **options):
        original(path, *arguments, **options)
        if path != tmp_path:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, create, interrupted)
    with pytest.raises(KeyboardInterrupt), write(tmp_path / "x.json"):
        pass
    assert list(tmp_path.iterdir()) == []
