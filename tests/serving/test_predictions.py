"""A loaded model says of pictures what its stages say of their packed arrays and features, however a picture comes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serving.conftest import CAPTIONERS

import seesay
from seesay.captioning.data.batches import references_of
from seesay.captioning.data.records import read_caption_records
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.captioning.features.store import read_features
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.networks.registry import restore_captioner
from seesay.captioning.predict import decode_rows, rerank_by_consensus
from seesay.classification.evaluate import predict_split
from seesay.classification.networks.registry import restore_classifier
from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.core.paths import Paths
from seesay.core.settings import read_section
from seesay.images.packed import read_packed_images
from seesay.params.captioning import Decoding
from seesay.serving.captioner import Captioner
from seesay.serving.predictor import Autoencoder, Caption, Classifier, Prediction
from seesay.training.checkpoint import load_checkpoint


def saved(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def load_captioner(root: Path, name: str) -> Captioner:
    model = seesay.load(root / f"models/captioners/{name}", device="cpu")
    assert isinstance(model, Captioner)
    return model


@pytest.fixture(scope="module")
def classifier(trained: Path) -> Classifier:
    model = seesay.load(trained / "models/classifiers/resnet9", device="cpu")
    assert isinstance(model, Classifier)
    return model


def test_a_classifier_predicts_files_as_evaluation_predicts_packed_arrays(trained, classifier, compute):
    images = read_packed_images(Paths(trained).images("tiny"))
    network = restore_classifier(load_checkpoint(Paths(trained).classifier("resnet9"), kind="classifier"))
    expected = predict_split(network, images, images.val, batch_size=4, compute=compute)
    files = [saved(pixels) for pixels in images.val.images]
    assert np.allclose(classifier.logits(classifier.transform.batch(files)), expected.logits, atol=1e-5)
    for classes, logits in zip(classifier(files, top=6), expected.logits, strict=True):
        shares = np.exp(logits / 2.0)  # the temperature that evaluation found
        assert [one.label for one in classes] == [images.classes[i].label for i in np.argsort(-logits)]
        assert [one.score for one in classes] == pytest.approx(sorted(shares / shares.sum(), reverse=True), abs=1e-5)


@pytest.mark.parametrize("name", [*CAPTIONERS, "ensemble"])
def test_a_captioner_says_of_files_what_it_says_of_stored_features(trained, pictures, compute, name):
    paths = Paths(trained)
    checkpoint = load_checkpoint(paths.captioner(name), kind="captioner")
    captions = read_caption_records(paths.captions("dots"))
    vocabulary = read_vocabulary(paths.vocabulary("dots"))
    features = [read_features(paths.features(one), captions) for one in checkpoint.settings["features"]]
    decoding: Decoding = read_section(trained, f"captioners.{name}.decoding", Decoding)
    rows = np.arange(len(captions))
    network = restore_captioner(checkpoint)
    found = decode_rows(network, features, rows, decoding, seed=0, compute=compute)
    if getattr(decoding, "rerank", None):
        found = rerank_by_consensus(found, vocabulary, CiderReferences(references_of([captions], "train")))
    expected = [[" ".join(vocabulary.decode(one.token_ids)) for one in of_image] for of_image in found]
    model = load_captioner(trained, name)
    most = min(map(len, expected))
    answers = model(pictures, num_captions=most)
    assert [[one.text for one in of_image] for of_image in answers] == [of_image[:most] for of_image in expected]
    assert len({of_image[0] for of_image in expected}) > 1, "all images get the same caption: nothing is shown"


def _text(answer: Prediction | Caption) -> str:
    return answer.label if isinstance(answer, Prediction) else answer.text


@pytest.mark.parametrize("name", ["resnet9", "on_grid"])
def test_the_way_a_picture_comes_changes_no_answer(trained, pictures, name):
    model: Any = seesay.load(trained / f"models/{'classifiers' if name == 'resnet9' else 'captioners'}/{name}")
    path = pictures[1]
    opened, array = Image.open(path), np.asarray(Image.open(path).convert("RGB"))
    rgba = np.dstack([array, np.full(array.shape[:2], 255, np.uint8)])
    ways = [path, str(path), path.read_bytes(), opened, array, rgba]
    assert all(model(way) == model(path) for way in ways)
    first, *others = model(ways)  # a batch, which rounds in another order than one image alone
    assert others == [first] * 5
    assert model(np.stack([array] * 6)) == [first] * 6
    assert [_text(one) for one in first] == [_text(one) for one in model(path)]
    assert model([]) == []


def test_a_grey_picture_may_be_an_array_of_two_dimensions(classifier):
    grey = np.arange(40 * 30, dtype=np.uint16).reshape(40, 30).astype(np.uint8)
    assert classifier(grey) == classifier(np.dstack([grey] * 3)) == classifier(grey[..., None])


def test_a_turned_photograph_is_seen_upright(classifier, pictures):
    upright = Image.open(pictures[1]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: viewers turn the picture to the right
    buffer = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    assert classifier(buffer.getvalue()) == classifier(upright)
    assert classifier(Image.open(buffer)) == classifier(upright)


def test_what_is_no_picture_is_one_clear_error(classifier, tmp_path):
    (tmp_path / "words.jpg").write_text("words")
    cases = [
        (tmp_path / "no.jpg", r"no\.jpg: no such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "words.jpg", r"words\.jpg: not a readable image"),
        (b"", "not a readable image"),
        ("https://x/a.jpg", "https://x/a.jpg: expected the path of a file"),
        (np.zeros((8, 8, 3)), "array of float64"),
        (np.zeros((8, 8, 2), np.uint8), r"expected uint8 \(H, W\)"),
        (7, "got int for an image"),
    ]
    for image, message in cases:
        with pytest.raises(InputError, match=message):
            classifier(image)
    with pytest.raises(InputError, match="top: got 0"):
        classifier(np.zeros((8, 8, 3), np.uint8), top=0)


def test_a_captioner_decodes_as_released_or_with_another_beam(trained, pictures):
    model = load_captioner(trained, "on_grid")
    three = model(pictures[0], num_captions=3)
    assert model(pictures[0]) == three[:1]
    assert len({one.text for one in three}) == 3
    greedy = model(pictures, beam_size=1)
    assert [len(of_image) for of_image in greedy] == [1] * len(pictures)
    assert model(pictures[0], beam_size=3, num_captions=3) == three
    with pytest.raises(InputError, match="num_captions: got 4: expected at most 3"):
        model(pictures[0], num_captions=4)
    with pytest.raises(InputError, match="num_captions: got 2: expected at most 1"):
        load_captioner(trained, "on_vectors")(pictures[0], num_captions=2)


def test_each_word_is_explained_by_attention_that_sums_to_one(trained, pictures):
    model = load_captioner(trained, "on_grid")
    for caption in model(pictures[1], num_captions=2, explain=True):
        assert caption.evidence is not None
        assert len(caption.evidence) == len(caption.words) > 0
        for one in caption.evidence:
            assert one.weights.shape == (32, 32)
            assert one.weights.sum() == pytest.approx(1)
            assert np.array_equal(one.pixels, model.transforms[0].batch([pictures[1]])[0])
            assert one.overlay().size == (32, 32)
    with pytest.raises(InputError, match="on_vectors: explains no words"):
        load_captioner(trained, "on_vectors")(pictures[0], explain=True)


def test_each_class_is_explained_by_its_own_map(classifier, pictures):
    first, second = classifier(pictures[1], top=2, explain=True)
    for one in (first, second):
        assert one.evidence is not None
        assert one.evidence.weights.shape == (32, 32)
        assert one.evidence.weights.max() in (0, pytest.approx(1))
    assert not np.array_equal(first.evidence.weights, second.evidence.weights)
    brightest = np.asarray(first.evidence.overlay()).astype(int)
    assert (brightest <= first.evidence.pixels.astype(int) + 1).all()  # never brighter than the picture


def test_an_autoencoder_returns_pictures(trained, pictures):
    model = seesay.load(trained / "models/autoencoders/conv.pt")
    assert isinstance(model, Autoencoder)
    assert [one.size for one in model(pictures[:2])] == [(32, 32)] * 2
    assert model(pictures[0]).mode == "RGB"


def test_loading_a_model_changes_no_setting_of_torch(trained, pictures, compute: Compute):
    import torch

    before = (torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.is_grad_enabled())
    seesay.load(trained / "models/classifiers/resnet9")(pictures[0], explain=True)
    assert (torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.is_grad_enabled()) == before


def test_the_code_in_the_document_runs(trained, monkeypatch, capsys):
    """With models of the test in place of the demo's."""
    text = (Path(__file__).resolve().parents[2] / "docs/prediction.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for shown, ours in (("classifiers/resnet9", "resnet9"), ("captioners/soft_attention_reward_scenes", "on_grid")):
        assert code.count(f".work/demo/models/{shown}") == 1
        code = code.replace(f".work/demo/models/{shown}", ours)
    picture = Path(__file__).resolve().parents[2] / "docs/images/scene.png"
    monkeypatch.chdir(trained)
    exec(code.replace("docs/images/scene.png", str(picture)), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 2
    assert lines[0].split("% ")[1] in ("red", "green", "blue", "yellow", "purple", "grey")
    assert lines[3].endswith("(32, 32)")
