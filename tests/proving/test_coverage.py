"""Together, the proofs of all kinds run every line that training can run, except for the listed lines."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coverage
import pytest

from seesay.proving.cases import PROOFS

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/seesay"

FOLDERS = ("models", "training")
FILES = (
    "data/augmentation.py", "data/caption_batches.py", "data/colour.py", "data/feature_origin.py",
    "data/feature_rows.py", "data/features.py", "data/geometry.py", "data/image_batches.py", "data/image_views.py",
    "data/joined_features.py", "data/mixing.py", "data/patch_masks.py", "data/pixel_rows.py",
    "data/principal_components.py", "data/trivial_augment.py", "evaluation/caption_reward.py", "seeding.py",
)  # fmt: skip
"""Code that can change a number of a training run, as paths below the package's folder."""

ELSEWHERE = {
    "models/beam_search.py": "decoding, a cheap stage",
    "models/decoding.py": "which way of decoding, for cheap stages",
    "models/onnx_export.py": "export",
    "training/rate_range.py": "a command that stores nothing",
}

DRAWING_ATTENTION = "what is looked at, for figures"
OF_DECODING = "for decoding, a cheap stage"
OF_LATENTS = "for evaluation, a cheap stage"
OF_ENCODER = "what `load_encoder` does with weights: no stage comes here, `load_feature_encoder` reads them"
OF_RESUMING = "going on after a kill, which ends in the same bytes (tests/training/test_loop.py)"
OF_TOKENS = "vision transformers: the smallest has 86 million weights (tests/models/test_feature_encoders.py)"
EXCEPTIONS: dict[str, dict[str, str]] = {
    "models/att2in.py": {"def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION},
    "models/soft_attention.py": {"def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION},
    "models/updown.py": {"def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION},
    "models/seeing_captioner.py": {
        "def attention(self, features: Tensor, tokens: Tensor) -> Tensor:": DRAWING_ATTENTION,
    },
    "models/captioner.py": {"def forward(self, features: Tensor, tokens: Tensor) -> Tensor:": "for tests"},
    "models/autoencoders.py": {
        "def autoencoder_settings(checkpoint: Checkpoint) -> Autoencoder:": OF_LATENTS,
        "def restore_autoencoder(checkpoint: Checkpoint) -> LatentAutoencoder:": OF_LATENTS,
        "def _described(architecture: object) -> str:": "an error's words",
    },
    "models/backbone_autoencoder.py": {"def latent_size(self) -> int:": OF_LATENTS},
    "models/conv_autoencoder.py": {"def latent_size(self) -> int:": OF_LATENTS},
    "models/residual_autoencoder.py": {"def latent_size(self) -> int:": OF_LATENTS},
    "models/decoded.py": {
        "def reordered(state: State, beams: Tensor) -> State:": OF_DECODING,
        "def best_first(captions: Iterable[Decoded]) -> list[Decoded]:": OF_DECODING,
    },
    "models/greedy.py": {
        "def greedy_search(captioner: Captioner, features: Tensor, *, max_length: int) -> list[Decoded]:": OF_DECODING,
        "if len(images) == 0:": "val has images",
    },
    "models/sampling.py": {
        "def nucleus_sampling(": OF_DECODING,
        "def _from_nucleus(log_probabilities: Tensor, uniform: Tensor, *, top_p: float, temperature: float) "
        "-> Tensor:": OF_DECODING,
        "if num_images == 0:": "a batch has images",
        "if num_going_on == 0:": "in tiny trainings one of the captions always reaches the longest length",
    },
    "models/encoder.py": {
        "def forward(self, images: Tensor) -> Tensor:": OF_ENCODER,
        "if architecture in UNTRAINED_ENCODERS:": OF_ENCODER,
        "allowed_names = torchvision.models.list_models(module=torchvision.models)": OF_ENCODER,
        "if architecture not in allowed_names:": OF_ENCODER,
        "network = torchvision.models.get_model(architecture, weights=None)": OF_ENCODER,
        "name, head, linear = find_head(network, architecture)": OF_ENCODER,
        "read_torchvision_weights(network, weights_path, architecture)": OF_ENCODER,
        "network.eval()": OF_ENCODER,
        "setattr(network, name, nn.Sequential(*head[: head.index(linear)]))": OF_ENCODER,
        "return Encoder(fuse_batch_norms(network), num_dimensions=linear.in_features, mean=IMAGENET_MEAN, "
        "std=IMAGENET_STD)": OF_ENCODER,
        "if not isinstance(convolution, nn.Conv2d) or len(before.users) > 1:": "DenseNets: their norms come first",
        "if name not in found:": "an error's words",
        "elif found[name].shape != tensor.shape:": "an error's words",
    },
    "models/extraction.py": {
        "def __getitem__(self, index: int) -> Tensor | InputError:": "an image that cannot be decoded is an error",
        "def _open_anew(_worker: int) -> None:": "runs in a worker, whose lines are not counted; `enlarged` has one",
    },
    "models/feature_encoders.py": {"if isinstance(built, torchvision.models.MNASNet):": "how MNASNets read weights"},
    "models/last_map.py": {
        'if kind == "tokens":': OF_TOKENS,
        "if len(shape) == 3 and shape[2] == dimensions and shape[1] > 2 and "
        "math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1:": OF_TOKENS,
        "def _tokens_to_map(tokens: Tensor) -> Tensor:": OF_TOKENS,
    },
    "models/trainable_encoders.py": {"if not children:": "a network of one layer"},
    "training/loop.py": {
        "for epoch, row in enumerate(course.history, start=1):": OF_RESUMING,
        "if not self._pending:": "two looks without a step between them",
        "if self._compiled is not None:": "compiled networks, on GPUs only",
    },
    "training/progress.py": {
        "if sys.stderr.isatty():": "a bar on a terminal",
        "if self._bar is not None:": "a bar on a terminal",
    },
    "training/resuming.py": {
        "def load(self, *described_by: str) -> Course:": OF_RESUMING,
        "def save(self, course: Course) -> None:": "without a folder nothing is kept",
    },
    "training/scheduled_sampling.py": {"if not bool(replaced.any()):": "no word of a batch is replaced"},
    "data/feature_rows.py": {
        "def _read_progress(self) -> int:": OF_RESUMING,
        "def place_array(source: Path, target: Path) -> None:": "file systems without links",
    },
    "data/geometry.py": {'if images.device.type != "cpu":': "GPUs"},
}
"""First lines of code that is not run, with the reason, by file. A branch that ends by raising needs no entry."""


@pytest.mark.timeout(2400)
def test_proofs_run_every_line_of_what_they_stand_for(tmp_path: Path) -> None:
    data = tmp_path / "coverage"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    (tmp_path / "settings").write_text(f"[run]\nsource = {PACKAGE}\n")
    command = [sys.executable, "-m", "coverage", "run", "-p", f"--rcfile={tmp_path / 'settings'}"]

    def prove(kind: str) -> None:
        ran = [*command, f"--data-file={data}", str(ROOT / "stages/prove.py"), kind]
        subprocess.run(ran, cwd=tmp_path, env=environment, check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(prove, PROOFS))
    found = coverage.Coverage(data_file=str(data))
    found.combine([str(tmp_path)])
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
