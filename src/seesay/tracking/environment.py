"""Environment of a run: the machine, Python, git, the locked requirements and the process itself."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from seesay.core.errors import redact
from seesay.core.files import file_digest
from seesay.core.forkserver import caller_pid
from seesay.core.stage import DVC_PROGRAMS, is_program

MAX_DIFF = 300_000
NO_CODE = (":(exclude)metrics", ":(exclude)reports", ":(exclude)dvc.lock", ":(top,exclude,glob)**/.dvc/config")
"""Pathspecs that leave out changes which do not make the code dirty: what the pipeline itself rewrites while it runs,
and the settings of DVC's remotes, which may hold a password that was meant for `config.local`."""
_PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv")  # whatever the user's settings for the terminal are

_SHELLS = re.compile(r"^-?(sh|bash|dash|ash|zsh|fish|ksh|tcsh|csh|busybox|pwsh|powershell|cmd)(\.exe)?$")


@dataclass(frozen=True)
class Process:
    """A process on one machine. Its creation time tells it apart from a later process with the same id."""

    host: str
    pid: int
    created: str

    @staticmethod
    def of(process: psutil.Process) -> Process:
        return Process(socket.gethostname(), process.pid, _birth(process))

    @staticmethod
    def parse(text: str) -> Process:
        host, pid, created = text.split("|")
        return Process(host, int(pid), created)

    def __str__(self) -> str:
        return f"{self.host}|{self.pid}|{self.created}"

    @property
    def is_gone(self) -> bool:
        """True if the process has certainly ended. It is false for processes of other machines, which are unknown."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return _birth(process) != self.created or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def _birth(process: psutil.Process) -> str:
    """Return the start time of a process as text that does not change during its lifetime.

    On Linux, the unit is clock ticks since boot, because psutil's seconds since the epoch shift when the clock is set.
    """
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return f"{fields.split()[19]} ticks"
    except OSError:
        return f"{process.create_time():.2f}"


def find_pipeline_process() -> Process:
    """Return the common ancestor process of all stages of one pipeline execution.

    It is the nearest ancestor that is DVC. With another runner, it is the nearest ancestor that is not a shell.
    """
    parents = psutil.Process(caller_pid()).parents()
    for parent in parents:
        if is_program(parent, DVC_PROGRAMS):
            return Process.of(parent)
    for parent in parents:
        if not _SHELLS.match(_name(parent)):
            return Process.of(parent)
    return Process.of(psutil.Process())


def describe_environment(root: Path) -> dict[str, str]:
    """Return versions and machine facts for the run record and the tags.

    The torch version is included only if the stage has imported torch.
    """
    facts = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "num_cores": str(os.cpu_count()),
        "seesay.version": _version("seesay"),
    }
    if "torch" in sys.modules:
        facts["torch"] = _version("torch")
    lock = root / "requirements.lock"
    if lock.is_file():
        facts["env.lock_sha256"] = file_digest(lock)
    return facts


def describe_git(root: Path) -> tuple[dict[str, str], str]:
    """Return the tags `git.commit` and `git.dirty`, and the difference from the commit.

    A workspace below .work has commits of its own, but its code is the main repository's, which is described instead.
    URLs in the difference lose their credentials, and it is cut after `MAX_DIFF` characters. A repository that git
    cannot compare with its commit counts as dirty. Outside a git repository, both are empty.
    """
    main = find_main_repository(root)
    if root.resolve().is_relative_to(main / ".work"):
        root = main
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}, ""
    others = ["--", ":/", *NO_CODE]
    # The option overrides the user's settings, which may hide untracked files.
    status = _git(root, "status", "--porcelain", "--untracked-files=normal", *others)
    if status is None:
        status = "[git status failed]\n"
    tags = {"git.commit": commit.strip(), "git.dirty": str(bool(status)).lower()}
    diff = f"{status}\n{_git(root, 'diff', *_PLAIN, 'HEAD', *others) or ''}" if status else ""
    diff = "\n".join(redact(line) if "://" in line else line for line in diff.split("\n"))
    if len(diff) > MAX_DIFF:
        diff = diff[:MAX_DIFF] + f"\n[cut: {len(diff)} characters in all]\n"
    return tags, diff


def lock_digest(root: Path) -> str:
    """Return the digest of the current dvc.lock, or "" if there is no such file yet."""
    lock = root / "dvc.lock"
    return file_digest(lock) if lock.is_file() else ""


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def find_main_repository(root: Path) -> Path:
    """Return the repository whose store a workspace uses: the workspace itself, unless it is a copy inside another one.

    `dvc exp run --temp` and `--queue` work in `<main>/.dvc/tmp/exps/...`. The demo works in `<main>/.work/...`.
    """
    root = root.resolve()
    for parent in reversed(root.parents):
        inside = root.relative_to(parent).parts
        is_copy = inside[:3] == (".dvc", "tmp", "exps") or inside[0] == ".work"
        if is_copy and ((parent / ".dvc").exists() or (parent / "dvc.yaml").exists()):
            return parent
    return root


def workspace_name(root: Path) -> str:
    """Return a workspace's path inside the main repository, such as "." or, for the demo, `.work/demo`."""
    root = root.resolve()
    return root.relative_to(find_main_repository(root)).as_posix()
