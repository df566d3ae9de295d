"""Export of captioners as two ONNX files, an encoder and a decoding step; beam search runs around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.decoding.decode import Decoded, decode
from seesay.captioning.networks.base import Captioner as Network
from seesay.captioning.networks.base import Memory, State
from seesay.classification.export import OnnxFile, export_graph, require_packages
from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, write_bytes
from seesay.core.paths import Paths
from seesay.params.training import CAPTIONERS
from seesay.serving.captioner import SEED, Captioner
from seesay.serving.gather import gather_bundle

ENCODER_FILE, STEP_FILE = "encoder.onnx", "step.onnx"
BATCH_SIZE = 50
TOLERANCE = 1e-3
"""The largest allowed difference of a caption's log-probability."""


class OnnxCaptioner(Network):
    """The captioner in two ONNX files, for `decode`: its features are pixels, uint8 (N, S, S, 3), as its bundle says.

    `encoder` takes `images`, float32 (N, 3, S, S) in [0, 1], and returns `memory_0`, ... and `state_0`, ..., the state
    before <bos>. `step` takes `tokens`, int64 (N, B), these states and memories, and returns `logits` (N, B, V) and
    `next_0`, ...
    """

    looks_at: Literal["pooled", "grid"] = "grid"  # type: ignore[misc]

    def __init__(self, encoder: bytes, step: bytes, *, num_threads: int) -> None:
        super().__init__()
        self._encoder = OnnxFile(encoder, num_threads=num_threads)
        self._step = OnnxFile(step, num_threads=num_threads)
        self.vocabulary_size = int(json.loads(self._step.metadata["vocabulary_size"]))
        self._num_memory = sum(name.startswith("memory") for name in self._encoder.outputs)
        self.eval()

    def memory(self, features: Tensor) -> Memory:
        """Return memory and initial state, since one run of the encoder computes both."""
        images = features.permute(0, 3, 1, 2).contiguous().numpy() / np.float32(255)
        return tuple(torch.from_numpy(one) for one in self._encoder.run({"images": images}))

    def initial_state(self, memory: Memory) -> State:
        return memory[self._num_memory :]

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        named = {"tokens": tokens, **_numbered("state", state), **_numbered("memory", memory[: self._num_memory])}
        wanted = {name: named[name].contiguous().numpy() for name in self._step.inputs}
        logits, *following = (torch.from_numpy(one) for one in self._step.run(wanted))
        return logits, tuple(following)


@dataclass(frozen=True)
class ExportedCaptioner:
    """Written files, and a comparison with PyTorch: captions of test images, and their log-probabilities."""

    folder: Path
    num_bytes: int
    num_images: int
    num_same: int
    max_difference: float


def export_captioner(root: Path, cell: str, *, out: Path | None = None) -> ExportedCaptioner:
    """Write `encoder.onnx` and `step.onnx` of a captioner to the folder `out` (None: `.work/export/<cell>`).

    They are written only if every test image gets the same caption, by beam search or greedily, as from PyTorch, with a
    log-probability within `TOLERANCE`. Raises `InputError` for a captioner that samples or whose encoders see images
    resized in several ways, for a missing file or package, and for differing captions.
    """
    require_packages()
    model = Captioner(gather_bundle(root, CAPTIONERS, cell), device="cpu")
    if len(set(model.transforms)) > 1:
        raise InputError(f"{cell}: its encoders see images resized in several ways; expected one for an ONNX file")
    if model.decoding.method == "nucleus":
        raise InputError(f"{cell}: it samples its captions; expected greedy decoding or beam search to compare")
    encoder, step = export_graphs(model)
    exported = OnnxCaptioner(encoder, step, num_threads=torch.get_num_threads())
    paths = Paths(root)
    captions = read_caption_records(paths.captions(str(model.config.checkpoint["dataset"])))
    images, rows = open_caption_images(captions, paths), captions.rows("test")
    ours, theirs = [], []
    for start in range(0, len(rows), BATCH_SIZE):
        pixels = model.transforms[0].batch([images[row] for row in rows[start : start + BATCH_SIZE]])
        ours += model.decoded([pixels] * len(model.transforms))
        theirs += _best(exported, pixels, model)
    differences = [abs(one.log_probability - other.log_probability) for one, other in zip(ours, theirs, strict=True)]
    num_same = sum(one.token_ids == other.token_ids for one, other in zip(ours, theirs, strict=True))
    found = ExportedCaptioner(
        folder=paths.scratch / "export" / cell if out is None else root / out,
        num_bytes=len(encoder) + len(step),
        num_images=len(rows),
        num_same=num_same,
        max_difference=max(differences, default=0.0),
    )
    if num_same < len(rows) or not found.max_difference <= TOLERANCE:
        raise InputError(
            f"{cell}: the exported captioner differs from PyTorch's: the same caption for {num_same} of {len(rows)} "
            f"test images; log-probabilities differ by {found.max_difference:.2g} at most (allowed: {TOLERANCE:g}); "
            "nothing was written"
        )
    with atomic_directory(found.folder) as folder:
        write_bytes(folder / ENCODER_FILE, encoder)
        write_bytes(folder / STEP_FILE, step)
    return found


def export_graphs(model: Captioner) -> tuple[bytes, bytes]:
    """Return the contents of both ONNX files of a captioner; equal models give equal bytes."""
    size = model.transforms[0].image_size
    encode, images = _Encode(model), torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    step = _Step(model.captioner)
    with torch.no_grad():
        memory, state = encode.parts(images)
        # Of three beams and a second word, since sizes of 1 would be exported as constants.
        beams = tuple(part.expand(-1, 3, *part.shape[2:]).contiguous() for part in state)
        tokens = torch.ones(2, 3, dtype=torch.long)
        _, *later = step(tokens, beams, memory)
    growing = tuple(
        {0: "n", 1: "b", **{axis: "t" for axis in range(2, part.dim()) if part.shape[axis] != following.shape[axis]}}
        for part, following in zip(beams, later, strict=True)
    )
    names = [*_numbered("memory", memory), *_numbered("state", state)]
    described = {
        "vocabulary": json.dumps(list(model.vocabulary.tokens), ensure_ascii=False),
        "vocabulary_size": str(len(model.vocabulary)),
        "decoding": json.dumps(model.config.decoding, sort_keys=True),
        "transform": json.dumps(model.config.encoders[0].transform.model_dump(), sort_keys=True),
        "seesay.cell": model.name,
    }
    encoder = export_graph(encode, (images,), inputs=["images"], outputs=names, dynamic=({0: "n"},), metadata=described)
    graph = export_graph(
        step,
        (tokens, tuple(later), memory),
        inputs=["tokens", *_numbered("state", state), *_numbered("memory", memory)],
        outputs=["logits", *_numbered("next", state)],
        dynamic=({0: "n", 1: "b"}, growing, tuple({0: "n"} for _ in memory)),
        metadata=described,
    )
    return encoder, graph


def _best(exported: OnnxCaptioner, pixels: np.ndarray, model: Captioner) -> list[Decoded]:
    found = decode(exported, torch.from_numpy(pixels), model.decoding, seed=SEED)
    return [of_image[0] for of_image in model.ranked(found)]


class _Encode(nn.Module):
    """From images (N, 3, S, S) in [0, 1] to the memory and the initial state of a captioner, side by side."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(model.encoders)
        self.captioner = model.captioner
        self._projections = [
            {kind: (torch.from_numpy(one.mean), torch.from_numpy(one.axes)) for kind, one in of_encoder.items()}
            for of_encoder in model.components
        ]
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        memory, state = self.parts(images)
        return (*memory, *state)

    def parts(self, images: Tensor) -> tuple[Memory, State]:
        found = [self._features(number, images * 255.0) for number in range(len(self.encoders))]
        inputs = [found[position][kind].float() for position, kind in self.captioner.inputs()]
        features = inputs[0] if len(inputs) == 1 else torch.cat([one.flatten(1) for one in inputs], dim=1)
        memory = self.captioner.memory(features)
        return memory, self.captioner.initial_state(memory)

    def _features(self, number: int, images: Tensor) -> dict[str, Tensor]:
        features: dict[str, Tensor] = {}
        for kind, values in self.encoders[number](images).items():
            halves = values.half()  # as stored features are
            if kind in self._projections[number]:
                mean, axes = self._projections[number][kind]
                halves = ((halves.double() - mean) @ axes.T).float().half()
            features[kind] = halves
        return features


class _Step(nn.Module):
    """One word further: tokens, states and memories to logits and states."""

    def __init__(self, captioner: Network) -> None:
        super().__init__()
        self.captioner = captioner
        self.eval()

    def forward(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, ...]:
        logits, following = self.captioner.step(tokens, state, memory)
        return (logits, *following)


def _numbered(name: str, parts: Sequence[Any]) -> dict[str, Any]:
    return {f"{name}_{number}": part for number, part in enumerate(parts)}
