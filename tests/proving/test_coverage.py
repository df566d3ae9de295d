"""The committed proofs are current, and together run every line that training can run, but for the listed ones."""

import ast
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage
import pytest
from tests.proving.mutating import LIBRARIES

from seesay.core.files import read_json
from seesay.core.forkserver import ForkServer
from seesay.proving.cases import PROOFS
from seesay.proving.running import TOLERANCE, moves

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/seesay"

FOLDERS = (
    "autoencoding/networks", "autoencoding/training", "captioning/decoding", "captioning/features",
    "captioning/networks",
    "captioning/training", "classification/networks", "classification/training", "images/augment", "training",
)  # fmt: skip
FILES = ("captioning/data/batches.py", "images/batches.py", "seeding.py")
"""Code that can change a number of a training run, as paths below the package's folder."""

ELSEWHERE = {
    "captioning/decoding/beam.py": "decoding, a cheap stage",
    "captioning/decoding/decode.py": "which way of decoding, for cheap stages",
}

DRAWING_ATTENTION = "what is looked at, for figures"
OF_DECODING = "for decoding, a cheap stage"
OF_LATENTS = "for evaluation, a cheap stage"
OF_RESUMING = "going on after a kill, which ends in the same bytes (tests/training/test_loop.py)"
AN_ERROR = "an error's words"
OF_RANKS = "several processes for one training (tests/test_ranks.py)"
FROM_FILES = "splits that are read from their file, with the same bytes (tests/images/test_batches.py)"
OTHER_FILES = "weights under other names and in other formats (tests/classification/networks/test_published.py)"
EXCEPTIONS: dict[str, dict[str, str]] = {
    "captioning/features/combined.py": {"return rows": "inputs of an ensemble, which is not trained"},
    "captioning/networks/registry.py": {
        "def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION,
        "if len(self._inputs) == 1:  # as they are": "members with the same input (tests/captioning/networks)",
    },
    "captioning/networks/transformer.py": {
        "def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION,
    },
    "classification/networks/published.py": {
        "return _load_other_names(network, name, weights, path, misfit)": OTHER_FILES,
        "def _load_other_names(": OTHER_FILES,
        'if path.suffix == ".safetensors":': OTHER_FILES,
        "if isinstance(weights, Mapping) and isinstance(weights.get(inner), Mapping):": OTHER_FILES,
        "def _without_counters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:": OTHER_FILES,
    },
    "captioning/networks/attention.py": {
        "def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION,
    },
    "captioning/training/experiments.py": {
        "def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION,
    },
    "captioning/networks/base.py": {"def forward(self, features: Tensor, tokens: Tensor) -> Tensor:": "for tests"},
    "autoencoding/networks/registry.py": {
        "def autoencoder_settings(checkpoint: Checkpoint) -> Autoencoder:": OF_LATENTS,
        "def restore_autoencoder(checkpoint: Checkpoint) -> LatentAutoencoder:": OF_LATENTS,
        "def _describe(architecture: object) -> str:": AN_ERROR,
    },
    "autoencoding/networks/convolutional.py": {"def latent_size(self) -> int:": OF_LATENTS},
    "captioning/decoding/hypotheses.py": {
        "def select_beams(state: State, beams: Tensor) -> State:": OF_DECODING,
        "def best_first(captions: Iterable[Decoded]) -> list[Decoded]:": OF_DECODING,
    },
    "captioning/decoding/sampling.py": {
        "def greedy_search(captioner: Captioner, features: Tensor, *, max_length: int) -> list[Decoded]:": OF_DECODING,
        "if len(images) == 0:": "val has images",
        "def nucleus_sampling(": OF_DECODING,
        "def _sample_nucleus(log_probabilities: Tensor, uniform: Tensor, *, top_p: float, temperature: float) "
        "-> Tensor:": OF_DECODING,
        "if num_images == 0:": "a batch has images",
        "if num_unfinished == 0:": "in tiny trainings one of the captions always reaches the longest length",
    },
    "training/build.py": {
        "if name not in actual:": AN_ERROR,
        "elif actual[name].shape != tensor.shape:": AN_ERROR,
    },
    "training/checkpoint.py": {"def _brief(error: Exception) -> str:": AN_ERROR},
    "captioning/features/extract.py": {
        "def __getitem__(self, index: int) -> Tensor | InputError:": "an image that cannot be decoded is an error",
        "def _copy_images(_worker: int) -> None:": "runs in a worker, whose lines are not counted; `enlarged` has one",
    },
    "training/loop.py": {
        "for epoch, row in enumerate(state.history, start=1):": OF_RESUMING,
        "if num_saved:": OF_RESUMING,
        "if compute.sync_batch_norm:": OF_RANKS,
        "if ranks.count > 1:": OF_RANKS,
        "if self._compiled is not None:": "compiled networks, on GPUs only",
    },
    "training/checks.py": {
        "def resume(self, num_epochs: int, *, has_ended: bool) -> None:": OF_RESUMING,
        "def interruption(self, num_epochs: int) -> str:": "Ctrl-C (tests/pipeline/test_interruptions.py)",
        "if sys.stderr.isatty():": "a bar on a terminal",
        "if self._bar is not None:": "a bar on a terminal",
    },
    "training/steps.py": {
        "if not self._pending:": "two looks without a step between them",
        "if self._ranks.count > 1:": OF_RANKS,
        "def _joined(steps: Sequence[Step], ranks: Ranks) -> list[Step]:": OF_RANKS,
    },
    "images/batches.py": {
        "return LoadedImages(np.asarray(split.images), labels, mean, std)": FROM_FILES,
        "yield from _read_from_file(stored, batches, images.labels.device)": FROM_FILES,
        "def _read_from_file(": FROM_FILES,
        "if not isinstance(pixels, Tensor):": FROM_FILES,
    },
    "captioning/networks/layers.py": {"if num_dropped == 0:": "no dropout"},
    "training/resume.py": {
        "def load(self, *description: str) -> TrainingState:": OF_RESUMING,
        "def save(self, state: TrainingState) -> None:": "without a folder nothing is kept",
    },
    "captioning/training/fit.py": {"if not bool(replaced.any()):": "no word of a batch is replaced"},
    "captioning/features/rows.py": {
        "if time.monotonic() - self._flushed_at >= SECONDS_BETWEEN:": "progress is written once a second",
        "if self._num_flushed == self._num_done:": "a flush without new rows",
        "def _read_progress(self) -> int:": OF_RESUMING,
        "def link_array(source: Path, target: Path) -> None:": "file systems without links",
    },
    "images/augment/geometry.py": {'if images.device.type != "cpu":': "GPUs"},
}
"""First lines of code that is not run, with the reason, by file. A branch that ends by raising needs no entry."""

COUNTING = """
import os, runpy, sys
import coverage
os.fsync = lambda _: None
coverage.process_startup()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all proofs as the present code computes them, and the lines that ran in the file `coverage`."""
    folder = tmp_path_factory.mktemp("proved")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    (folder / "settings").write_text(f"[run]\nsource = {PACKAGE}\nparallel = true\ndata_file = {folder / 'coverage'}\n")
    (folder / "counting.py").write_text(COUNTING)
    server = ForkServer(environment, ("coverage", *LIBRARIES))  # importing them takes longer where lines are counted
    counted = {**environment, "COVERAGE_PROCESS_START": str(folder / "settings")}

    def prove(kind: str) -> None:
        command = [server.folder / "python", "counting.py", ROOT / "stages/prove.py", kind]
        subprocess.run(command, cwd=folder, env=counted, check=True)

    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(prove, PROOFS))
    finally:
        server.end()
    return folder


@pytest.mark.timeout(2400)
def test_the_committed_proofs_are_what_the_code_computes(proved: Path) -> None:
    names = sorted(path.relative_to(ROOT / "proofs") for path in (ROOT / "proofs").rglob("*.json"))
    assert names == sorted(path.relative_to(proved / "proofs") for path in (proved / "proofs").rglob("*.json"))
    for name in names:
        found = moves(read_json(ROOT / "proofs" / name), read_json(proved / "proofs" / name))
        assert [str(move) for move in found if move.size > TOLERANCE] == [], f"{name}: run `make prove`"


@pytest.mark.timeout(2400)
def test_proofs_run_every_line_of_what_they_stand_for(proved: Path) -> None:
    found = coverage.Coverage(data_file=str(proved / "coverage"))
    found.combine([str(proved)])
    left_out = {}
    for path in _units():
        name = path.relative_to(PACKAGE).as_posix()
        _, _, missing, _ = found.analysis(str(path))
        excused = set(_error_lines(path)) | set(_excused_lines(path, EXCEPTIONS.get(name, {})))
        if unseen := sorted(set(missing) - excused):
            lines = path.read_text(encoding="utf-8").splitlines()
            left_out[name] = [f"{number}: {lines[number - 1].strip()}" for number in unseen]
    assert not left_out, "\n".join([f"{name} {line}" for name, lines in left_out.items() for line in lines])


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_names_a_line_that_is_there(name: str) -> None:
    lines = [line.strip() for line in (PACKAGE / name).read_text(encoding="utf-8").splitlines()]
    assert all(line in lines for line in EXCEPTIONS[name]), set(EXCEPTIONS[name]) - set(lines)


def _units() -> list[Path]:
    of_folders = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).glob("*.py"))]
    return [
        path
        for path in [*of_folders, *(PACKAGE / name for name in FILES)]
        if path.relative_to(PACKAGE).as_posix() not in ELSEWHERE
    ]


def _error_lines(path: Path) -> Iterator[int]:
    """Yield the lines of blocks that end by raising an error."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and block and isinstance(block[-1], ast.Raise):
                first = node.lineno if isinstance(node, ast.ExceptHandler) else block[0].lineno
                yield from range(first, block[-1].end_lineno + 1)
        if isinstance(node, ast.Raise):
            yield from range(node.lineno, node.end_lineno + 1)


def _excused_lines(path: Path, exceptions: dict[str, str]) -> Iterator[int]:
    """Yield all lines of the statements that begin with a listed line, with the bodies of functions and `if` blocks."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and lines[node.lineno - 1].strip() in exceptions:
            yield from range(node.lineno, node.end_lineno + 1)
