"""Captioners as two ONNX files: they say what PyTorch's say, and nothing unchecked is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import seesay
from seesay.captioning.decoding.decode import decode
from seesay.core.errors import InputError
from seesay.serving import onnx_captioner
from seesay.serving.captioner import Captioner
from seesay.serving.onnx_captioner import ENCODER_FILE, STEP_FILE, OnnxCaptioner, export_captioner, export_graphs


@pytest.fixture(scope="module", autouse=True)
def _exported_once() -> Iterator[None]:
    """Each captioner is exported once, which takes longest; `export_graphs` itself exports anew."""
    exported: dict[str, tuple[bytes, bytes]] = {}

    def export_once(model: Captioner) -> tuple[bytes, bytes]:
        if model.name not in exported:
            exported[model.name] = export_graphs(model)
        return exported[model.name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_captioner, "export_graphs", export_once)
        yield


@pytest.mark.parametrize("name", ["on_vectors", "on_grid", "on_classifier"])
def test_an_exported_captioner_says_what_it_says_in_pytorch(trained, pictures, tmp_path, name):
    """On pooled features through principal components; with attention; a transformer, whose state grows."""
    model = seesay.load(trained / f"models/captioners/{name}", device="cpu")
    assert isinstance(model, Captioner)
    done = export_captioner(trained, name, out=tmp_path / name)
    assert done.num_images == done.num_same == 1
    files = [(done.folder / file).read_bytes() for file in (ENCODER_FILE, STEP_FILE)]
    exported = OnnxCaptioner(*files, num_threads=1)
    pixels = model.transforms[0].batch(pictures)  # another number of images than the graphs were traced with
    found = model.ranked(decode(exported, torch.from_numpy(pixels), model.decoding, seed=0))
    words = [" ".join(model.vocabulary.decode(of_image[0].token_ids)) for of_image in found]
    assert words == [one[0].text for one in model(pictures)]
    described = json.loads(exported._step.metadata["transform"])
    assert described == {"image_size": 32, "resize_size": 36, "interpolation": model.transforms[0].interpolation}
    assert str(trained).encode() not in files[0] + files[1]


def test_a_captioner_that_differs_is_not_written(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_captioner, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="the same caption for 1 of 1 test images"):
        export_captioner(trained, "on_grid", out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(trained, tmp_path):
    with pytest.raises(InputError, match="ensemble: its encoders see images resized in several ways"):
        export_captioner(trained, "ensemble")
    root = tmp_path / "copy"
    shutil.copytree(trained, root)
    params = (root / "params.yaml").read_text()
    sampling = "{method: nucleus, top_p: 0.9, temperature: 1.0, num_samples: 2, max_length: 8, batch_size: 4}"
    start = params.index("decoding:", params.index("on_vectors:"))
    end = params.index("learning:", start)
    (root / "params.yaml").write_text(params[:start] + f"decoding: {sampling}\n    " + params[end:])
    with pytest.raises(InputError, match="on_vectors: it samples its captions"):
        export_captioner(root, "on_vectors")


def test_the_pixels_of_an_export_are_those_of_the_transform(trained, pictures: list[Path]):
    model = seesay.load(trained / "models/captioners/on_grid", device="cpu")
    assert isinstance(model, Captioner)
    encoder, step = onnx_captioner.export_graphs(model)
    assert (encoder, step) == export_graphs(model)  # equal models give equal files
    exported = OnnxCaptioner(encoder, step, num_threads=1)
    ours = model.captioner.memory(model._inputs([model.transforms[0].batch(pictures)]))
    theirs = exported.memory(torch.from_numpy(model.transforms[0].batch(pictures)))
    for one, other in zip(ours, theirs, strict=False):
        assert np.allclose(one.detach(), other, atol=1e-2)  # features may round to another float16
