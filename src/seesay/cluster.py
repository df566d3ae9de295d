"""Stages on other machines: `seesay work`, and the workers of `seesay repro --executor ray`.

A worker has a clone of the repository at the same commit. It gets dvc.lock as it is where the run was started, takes
what the stage needs from a DVC remote, runs the stage, sends its outputs there, and hands back the stage's entry of
dvc.lock. All data move between machines by DVC, metrics as well, which git keeps otherwise.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ruamel.yaml import YAML

from seesay.core.errors import InputError
from seesay.core.files import read_json, write_bytes, write_text
from seesay.core.forkserver import forking_python

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    from seesay.params.training import Runtime

LOCK = "dvc.lock"

INPUTS = (".dvc/config", "dvc.yaml", "params.yaml", "proofs", "requirements.lock", "src", "stages")
"""Tracked files that decide what a stage does: in a clone at the same commit, they must be those of the workspace."""

Entry = Mapping[str, Any]
"""A stage's entry of dvc.lock: its command, and the hashes of its parameters, dependencies and outputs."""


@dataclass(frozen=True)
class Outcome:
    """What a worker says of a stage: DVC's exit status, what was printed, and its entry of dvc.lock if it passed."""

    status: int
    output: str
    entry: Entry | None


class Worker(Protocol):
    """A machine's clone: runs one stage at a time with the given dvc.lock."""

    def run(self, address: str, lock: str) -> Outcome: ...


def can_travel(stage: PipelineStage) -> bool:
    """Whether other machines may run the stage: one of a `foreach`, whose outputs are all kept by DVC.

    What fetches sources keeps its downloads, and what compares or reports reads everything: both stay where they are.
    """
    return "@" in str(getattr(stage, "name", None)) and not any(out.persist for out in stage.outs)


def work(root: Path, address: str, *, remote: str) -> Entry:
    """Run one stage in this clone, with inputs from the DVC remote, and send its outputs there; return its entry.

    Raises `InputError` where the stage is unknown or fails, or where the remote lacks an input.
    """
    with _repo(root) as repo:
        stage = _find(repo, address)
        if not can_travel(stage):
            raise InputError(f"{address}: expected an instance of a stage that keeps nothing beside its outputs")
        _receive(repo, [out for out in _inputs(repo, stage) if out.status()], remote)
    command = [sys.executable, "-m", "seesay.tracking.dvc_stages", "repro", "--single-item", address]
    if status := subprocess.run(command, cwd=root, check=False).returncode:
        raise InputError(f"{address}: dvc repro ended with exit status {status}")
    with _repo(root) as repo:
        stage = _find(repo, address)
        _send(repo, stage.outs, remote)
        return _entry(stage)


def accept_all(root: Path, entries: Mapping[str, Entry], *, remote: str) -> Iterator[str]:
    """Accept what workers have made, in the order in which the stages depend on each other; yield their addresses."""
    import networkx

    with _repo(root) as repo:
        order = [getattr(stage, "name", None) for stage in networkx.dfs_postorder_nodes(repo.index.graph)]
    if unknown := entries.keys() - set(order):
        raise InputError(f"got the stage {min(unknown)!r}: there is no such stage in dvc.yaml")
    for address in order:
        if address is not None and address in entries:
            accept(root, address, entries[address], remote=remote)
            yield address


def accept(root: Path, address: str, entry: Entry, *, remote: str) -> None:
    """Put a stage's entry into dvc.lock, and its outputs, from the remote, into the workspace.

    An entry for other parameters, dependencies or another command than the workspace's is refused. Where the entry or
    the outputs cannot be had, dvc.lock stays as it was.
    """
    yaml = YAML()
    path = root / LOCK
    with _repo(root) as repo:  # whose lock is DVC's own: no stage that ends meanwhile writes the file
        before = path.read_bytes() if path.exists() else None
        lock = yaml.load((before or b"schema: '2.0'\n").decode())
        lock.setdefault("stages", {})[address] = dict(entry)
        text = io.StringIO()
        yaml.dump(lock, text)
        try:
            write_text(path, text.getvalue())
            repo._reset()
            stage = _find(repo, address)
            if stage.changed_deps() or stage.changed_stage():
                raise InputError(f"{address}: the worker's inputs are not those of this workspace")
            _receive(repo, stage.outs, remote)
        except BaseException:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                write_bytes(path, before)
            raise


def _inputs(repo: Repo, stage: PipelineStage) -> list[Output]:
    """Return the outputs of other stages that lie at, in or around the stage's dependencies."""
    paths = [Path(dep.fs_path) for dep in stage.deps]
    return [
        out
        for needed in repo.index.graph[stage]
        for out in needed.outs
        if any(Path(out.fs_path).is_relative_to(path) or path.is_relative_to(out.fs_path) for path in paths)
    ]


def _receive(repo: Repo, outs: Iterable[Output], remote: str) -> None:
    from dvc.exceptions import CollectCacheError

    for out in _kept(repo, outs):
        try:
            failed = [repo.cloud.pull(one, remote=remote).failed for one in out.get_used_objs(remote=remote).values()]
        except CollectCacheError:  # a folder's list of files
            failed = [{out}]
        if any(failed):
            raise InputError(f"{out}: the DVC remote {remote} lacks it")
        with repo.stage_cache._cache_type_copy():  # so that git finds a file where it expects one, not a link
            out.checkout(force=True)


def _send(repo: Repo, outs: Iterable[Output], remote: str) -> None:
    for out in _kept(repo, outs):
        if out.changed_cache():
            continue  # a proof, or another file that git has
        for objects in out.get_used_objs().values():
            if repo.cloud.push(objects, remote=remote).failed:
                raise InputError(f"{out}: it did not reach the DVC remote {remote}")


def _kept(repo: Repo, outs: Iterable[Output]) -> Iterator[Output]:
    """Return these outputs as in DVC's cache, where the run cache has those too that git keeps."""
    for out in outs:
        if not out.hash_info:
            raise InputError(f"{LOCK}: expected an entry of {out.stage.name}, whose output {out} is needed")
        whole = repo.stage_cache._create_stage(_entry(out.stage), wdir=out.stage.wdir)
        yield next(one for one in whole.outs if one.def_path == out.def_path)


def _entry(stage: PipelineStage) -> dict[str, Any]:
    from dvc.stage.serialize import to_single_stage_lockfile

    return dict(to_single_stage_lockfile(stage))


def _find(repo: Repo, address: str) -> PipelineStage:
    for stage in repo.index.stages:
        if getattr(stage, "name", None) == address:
            return stage
    raise InputError(f"got the stage {address!r}: there is no such stage in dvc.yaml")


@contextmanager
def _repo(root: Path) -> Iterator[Repo]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
            yield repo
    except DvcException as error:
        raise InputError(f"{root}: {error}") from None


class Clone:
    """A clone of `url` at `commit` in a temporary folder, whose code runs stages with this interpreter."""

    def __init__(self, url: str, commit: str, *, remote: str) -> None:
        self._remote = remote
        self._folder = tempfile.TemporaryDirectory(prefix="seesay-")
        self._root = Path(self._folder.name) / "clone"
        git(["clone", "--quiet", "--no-checkout", url, str(self._root)], Path.cwd())
        git(["checkout", "--quiet", "--detach", commit], self._root)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        code = os.pathsep.join([str(self._root / "src"), os.environ.get("PYTHONPATH", "")])
        self._stack = ExitStack()  # as long as the clone, whose stages are forks of one process with the libraries
        self._environment = self._stack.enter_context(
            forking_python(
                # Processes that share cores must not spin while they wait for each other.
                {"OMP_WAIT_POLICY": "passive", **os.environ, "PATH": path, "PYTHONPATH": code, "PYTHONUNBUFFERED": "1"}
            )
        )

    def run(self, address: str, lock: str) -> Outcome:
        write_text(self._root / LOCK, lock)
        result = self._root.parent / "result.json"
        result.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "seesay.cli", "work", address, "--remote", self._remote, "--result", str(result)],
            cwd=self._root, env=self._environment, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        entry = read_json(result)[address] if done.returncode == 0 else None
        return Outcome(done.returncode, done.stdout, entry)


def git(arguments: Sequence[str], folder: Path) -> str:
    """Run git in `folder` and return what it prints; raise `InputError` with its message where it fails."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{folder}: git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def commit_for_workers(root: Path) -> str:
    """Return the commit that clones check out; raise `InputError` where files that decide results differ from it."""
    if changed := git(["status", "--porcelain", "--untracked-files=normal", "--", *INPUTS], root):
        files = ", ".join(line[3:] for line in changed.splitlines())
        raise InputError(f"{files}: not committed: expected a clean commit, which is what other machines check out")
    return git(["rev-parse", "HEAD"], root)


def clone_source(root: Path) -> str:
    """Return where workers clone from: the repository's origin, else the repository itself."""
    remotes = git(["remote"], root).split()
    return git(["remote", "get-url", "origin"], root) if "origin" in remotes else str(root.resolve())


class Dispatcher:
    """Hands the stages that can travel to other machines' workers, and takes their outputs into the workspace."""

    def __init__(self, root: Path, *, remote: str) -> None:
        self.root, self.remote = root, remote
        self._one_at_a_time = threading.Lock()
        with _repo(root) as repo:
            self.travelling = frozenset(str(one.name) for one in repo.index.stages if can_travel(one))

    def run(self, address: str, worker: Worker) -> tuple[int, str]:
        """Run a stage on another machine, unless it is up to date; return its exit status and its output."""
        with self._one_at_a_time, _repo(self.root) as repo:
            if not _find(repo, address).status():
                return 0, f"Stage '{address}' didn't change, skipping"
            # What stages of this machine have made; the rest is on the remote already, or is found to be.
            _send(repo, _inputs(repo, _find(repo, address)), self.remote)
            lock = (self.root / LOCK).read_text(encoding="utf-8")
        outcome = worker.run(address, lock)
        if outcome.entry is not None:
            with self._one_at_a_time:
                accept(self.root, address, outcome.entry, remote=self.remote)
        return outcome.status, outcome.output


def resources_of(runtime: Runtime, *, has_gpus: bool) -> tuple[str, int]:
    """Return what a stage takes of a cluster: GPU or CPU, and how many."""
    if has_gpus:
        return "GPU", runtime.processes
    return "CPU", runtime.processes * (1 if runtime.num_threads == "auto" else runtime.num_threads)


MAX_TRIES = 4
"""How often a stage is tried whose worker is lost each time: the stage itself may be what ends it."""


def ray_workers(
    address: str | None, *, url: str, commit: str, remote: str, num_workers: int | None, runtime: Runtime
) -> list[Worker]:
    """Start clones on a Ray cluster; all that it has room for if `num_workers` is None.

    Each has a GPU for each of the runtime's processes, or where there are none a core for each thread of each process
    (one if `num_threads` is `auto`). A clone whose process or machine is lost starts anew elsewhere, and its stage with
    it.
    """
    try:
        ray: Any = import_module("ray")  # so that types are checked alike with and without the extra
    except ImportError:
        raise InputError("--executor ray: ray is not installed: expected `pip install 'seesay[ray]'`") from None
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    resources = ray.cluster_resources()
    kind, num_needed = resources_of(runtime, has_gpus=resources.get("GPU", 0) >= 1)
    room = int(resources.get(kind, 0)) // num_needed
    if room == 0:
        raise InputError(
            f"--executor ray: the cluster has {resources.get(kind, 0):g} {kind}: expected {num_needed} or more for a "
            "stage, by runtime.num_threads and runtime.processes"
        )
    remote_clone = ray.remote(Clone).options(
        max_restarts=-1, max_task_retries=MAX_TRIES - 1, **{f"num_{kind.lower()}s": num_needed}
    )

    class OnRay:
        def __init__(self) -> None:
            self._clone = remote_clone.remote(url, commit, remote=remote)

        def run(self, address: str, lock: str) -> Outcome:
            outcome: Outcome = ray.get(self._clone.run.remote(address, lock))
            return outcome

    return [OnRay() for _ in range(num_workers or room)]
