"""The drop-in for pycocoevalcap, and the torchmetrics metric, in the code that other projects have.

The expected values are pycocoevalcap 1.2's own, with its tokenizer and METEOR in Java.
"""

import contextlib
import json
import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from torchmetrics import MetricCollection
from torchmetrics.text import BLEUScore

from seesay import CaptionScores, COCOEvalCap
from seesay.captioning import coco_eval as module
from seesay.captioning.coco_eval import Bleu, Cider, PTBTokenizer, Rouge
from seesay.captioning.metrics import java
from seesay.core.errors import InputError

REFERENCES = {
    7: ["A dog runs on the beach.", "The brown dog is running along the sea", "a dog at the beach"],
    3: ["Two cats sleep on a red sofa.", "two cats, sleeping on the couch!"],
    12: ["The man's bike isn't red.", "A man rides a bike (a blue one)", "man on a bike", "a cyclist"],
    5: ["A bird; flying over water", "a bird flies"],
    9: ["A plate of food on a table"],
}
PREDICTIONS = {
    3: "two cats on a sofa",
    5: "a dog runs on the beach",
    7: "A brown dog runs along the beach.",
    12: "a man rides a blue bike",
    9: "...",
}
METHODS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
CORPUS = (0.5913888543631435, 0.46998820392500795, 0.274244694756364, 0.18929583510447778, 0.5215110218225624,
          1.259321132100009)  # fmt: skip
IMAGES = {
    7: (0.9999999998571429, 0.8164965808013636, 5.1087295484226855e-06, 1.3512001545504674e-08, 0.7800511508951408,
        2.2792321553121546),
    3: (0.8187307527504899, 0.5789300672213649, 4.505648969749411e-06, 1.3910597733719861e-08, 0.8090185676392573,
        2.3555858724873064),
    12: (0.8464817246084536, 0.757116271161685, 0.6236930672719415, 0.5115078113725902, 0.782051282051282,
         1.6617876327005834),
    5: (0.16666666663888907, 5.773502690837786e-09, 2.0274006647743935e-11, 1.2909944484291948e-12, 0.2364341085271318,
        0.0),
    9: (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}  # fmt: skip
METEOR = 0.27266549732686957
IMAGE_METEOR = {7: 0.49146910447132813, 3: 0.2925138696584294, 12: 0.3843319119719861, 5: 0.05161290322580645, 9: 0.0}

USUAL = """
from pycocotools.coco import COCO
from pycocoevalcap.eval import COCOEvalCap

coco = COCO("captions.json")
coco_result = coco.loadRes("results.json")
coco_eval = COCOEvalCap(coco, coco_result)
coco_eval.params["image_id"] = coco_result.getImgIds()
coco_eval.evaluate()
for metric, score in coco_eval.eval.items():
    print(f"{metric}: {score:.3f}")
"""


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> COCO:
    """The references; the current folder has them as captions.json and the predictions as results.json."""
    annotations = [
        {"image_id": image_id, "id": 10 * image_id + number, "caption": caption}
        for image_id, captions in REFERENCES.items()
        for number, caption in enumerate(captions)
    ]
    content = {"images": [{"id": image_id} for image_id in REFERENCES], "annotations": annotations}
    results = [{"image_id": image_id, "caption": caption} for image_id, caption in PREDICTIONS.items()]
    (tmp_path / "captions.json").write_text(json.dumps(content))
    (tmp_path / "results.json").write_text(json.dumps(results))
    monkeypatch.chdir(tmp_path)
    made = COCO("captions.json")
    capsys.readouterr()
    return made


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "find_java", lambda: None)


def evaluate(coco: COCO, results: list[dict[str, object]] | str = "results.json", **options: object) -> COCOEvalCap:
    scores = COCOEvalCap(coco, coco.loadRes(results), **options)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores.evaluate()
    return scores


@pytest.mark.filterwarnings("ignore:.*left out")
def test_another_projects_code_changes_one_import(coco: COCO, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, COCOEvalCap] = {}
    exec(USUAL.replace("from pycocoevalcap.eval import", "from seesay import"), names)
    printed = capsys.readouterr().out
    assert "Bleu_4: 0.189\n" in printed
    assert "CIDEr: 1.259\n" in printed
    found = names["coco_eval"]
    np.testing.assert_allclose([found.eval[method] for method in METHODS], CORPUS, rtol=1e-12)
    assert [scores["image_id"] for scores in found.evalImgs] == list(REFERENCES)
    for scores in found.evalImgs:
        np.testing.assert_allclose(
            [scores[method] for method in METHODS], IMAGES[scores["image_id"]], rtol=1e-12, atol=1e-15
        )
    assert found.evalImgs == list(found.imgToEval.values())
    json.dumps([found.eval, found.evalImgs])  # plain numbers, as other projects write them


@pytest.mark.skipif(bool(java.why_no_meteor()), reason="no Java, or no pycocoevalcap")
def test_meteor_is_pycocoevalcaps_where_java_is(coco: COCO) -> None:
    found = evaluate(coco)
    assert list(found.eval)[:5] == [*METHODS[:4], "METEOR"]
    assert found.eval["METEOR"] == pytest.approx(METEOR, rel=1e-12)
    assert {scores["image_id"]: scores["METEOR"] for scores in found.evalImgs} == pytest.approx(IMAGE_METEOR, rel=1e-12)


def test_what_needs_java_is_left_out_with_one_warning(coco: COCO, no_java: None) -> None:
    found = COCOEvalCap(coco, coco.loadRes("results.json"))
    with pytest.warns(UserWarning, match=r"^METEOR is left out: no java on PATH; SPICE is left out: ") as noted:
        found.evaluate()
    assert len(noted) == 1
    assert str(noted[0].filename) == __file__
    assert list(found.eval) == list(METHODS)


def test_a_folder_given_for_spice_must_have_its_files(coco: COCO, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spice-1\.0\.jar: no such file"):
        evaluate(coco, spice_dir=tmp_path)


def test_spice_and_meteor_are_added_to_the_others(coco: COCO, monkeypatch: pytest.MonkeyPatch) -> None:
    f_scores = np.array([0.5, 0.25, 0.75, np.nan, 0.0])
    asked = []

    def spice(captions: list[str], references: list[list[str]], *, command: list[str]) -> np.ndarray:
        asked.append((captions, references, command))
        return f_scores

    monkeypatch.setattr(module, "spice_command", lambda folder: ["java", str(folder)])
    monkeypatch.setattr(module, "spice_java", spice)
    monkeypatch.setattr(module, "why_no_meteor", lambda: "")
    monkeypatch.setattr(module, "open_meteor", lambda: contextlib.nullcontext(SimpleNamespace()))
    monkeypatch.setattr(module, "meteor_java", lambda predictions, _, process: (0.3, np.arange(len(predictions))))
    found = COCOEvalCap(coco, coco.loadRes("results.json"), spice_dir="spice")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.evaluate()
    assert list(found.eval) == [*METHODS[:4], "METEOR", "ROUGE_L", "CIDEr", "SPICE"]
    assert found.eval["SPICE"] == 0.375
    assert found.imgToEval[3]["SPICE"] == {"All": {"f": 0.25}}
    assert found.imgToEval[12]["METEOR"] == 2
    (captions, references, command) = asked[0]
    assert captions[:2] == ["a brown dog runs along the beach", "two cats on a sofa"]
    assert references[1] == ["two cats sleep on a red sofa", "two cats sleeping on the couch"]
    assert command == ["java", "spice"]


def test_params_choose_the_images_and_a_second_call_starts_anew(coco: COCO) -> None:
    found = evaluate(coco)
    all_images = dict(found.eval)
    found.params["image_id"] = [5, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.evaluate()
    assert [scores["image_id"] for scores in found.evalImgs] == [5, 7]
    assert found.eval["CIDEr"] != all_images["CIDEr"]


def test_the_results_of_a_subset_need_its_images_in_params(coco: COCO) -> None:
    some = [{"image_id": image_id, "caption": PREDICTIONS[image_id]} for image_id in (3, 5)]
    with pytest.raises(InputError, match=r"3 of 5 images have no caption: \[7, 12, 9\]; params\['image_id'\] ="):
        evaluate(coco, some)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"image_id": 3, "caption": "a"}, {"image_id": 3, "caption": "b"}], r"have several captions.*: \[3\]"),
        ([{"image_id": 3, "caption": None}], "image 3: caption: got None: expected text"),
    ],
)
def test_results_that_fit_no_image_are_refused(coco: COCO, entries: list[dict[str, object]], message: str) -> None:
    found = COCOEvalCap(coco, coco.loadRes(entries))
    found.params["image_id"] = [3]
    with pytest.raises(InputError, match=message), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.evaluate()


def test_single_scorers_return_what_pycocoevalcaps_return(coco: COCO) -> None:
    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize(coco.imgToAnns)
    res = tokenizer.tokenize({image_id: [{"caption": PREDICTIONS[image_id]}] for image_id in gts})
    assert gts[12][:2] == ["the man 's bike is n't red", "a man rides a bike -lrb- a blue one -rrb-"]
    bleu, image_bleu = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, image_rouge = Rouge().compute_score(gts, res)
    cider, image_cider = Cider().compute_score(gts, res)
    np.testing.assert_allclose([*bleu, rouge, cider], CORPUS, rtol=1e-12)
    columns = np.column_stack([*image_bleu, image_rouge, image_cider])
    np.testing.assert_allclose(columns, [IMAGES[image_id] for image_id in gts], rtol=1e-12, atol=1e-15)
    assert Bleu(2).compute_score(gts, res) == (bleu[:2], image_bleu[:2])
    assert [type(scores) for scores in (bleu, image_bleu[0], image_rouge, image_cider)] == [
        list, list, np.ndarray, np.ndarray
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gts", "res", "message"),
    [
        ({}, {}, "at least one image"),
        ({1: ["a"]}, {}, r"no caption: \[1\]"),
        ({1: []}, {1: ["a"]}, r"no reference: \[1\]"),
        ({1: ["a"]}, {1: ["a"], 2: ["b"]}, r"no reference: \[2\]"),
        ({1: ["a"]}, {1: ["a", "b"]}, r"several captions, expected one: \[1\]"),
    ],
)
def test_a_single_scorer_names_images_that_do_not_match(
    gts: dict[int, list[str]], res: dict[int, list[str]], message: str
) -> None:
    for scorer in (Bleu(4), Rouge(), Cider()):
        with pytest.raises(InputError, match=message):
            scorer.compute_score(gts, res)  # type: ignore[attr-defined]


GOLDEN = Path(__file__).resolve().parents[3] / "shared/golden"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no ../shared/golden beside the repository")
def test_the_golden_captions_get_their_published_scores() -> None:
    coco = COCO(GOLDEN / "captions_karpathy_test.json")
    found = evaluate(coco, str(GOLDEN / "results_magic.json"))
    expected = dict(zip(METHODS, (0.56820, 0.35764, 0.21417, 0.12878, 0.39879, 0.49289), strict=True))
    assert {method: round(found.eval[method], 5) for method in METHODS} == expected
    assert len(found.evalImgs) == 4982


# ---------------------------------------------------------------- torchmetrics

BATCHES = [(3, 5), (7,), (12, 9)]


def batch(image_ids: tuple[int, ...]) -> tuple[list[str], list[list[str]]]:
    return [PREDICTIONS[image_id] for image_id in image_ids], [REFERENCES[image_id] for image_id in image_ids]


def values(scores: dict[str, torch.Tensor]) -> list[float]:
    return [scores[method].item() for method in METHODS]


def test_a_training_loop_gets_the_corpus_scores_of_its_batches() -> None:
    metrics = MetricCollection({"bleu": BLEUScore(), "captions": CaptionScores()})
    for image_ids in BATCHES:
        preds, target = batch(image_ids)
        metrics.update(preds=preds, target=target)
    scores = metrics.compute()
    assert set(scores) == {"bleu", *METHODS}
    np.testing.assert_allclose(values(scores), CORPUS, rtol=1e-6)
    metrics.reset()
    metrics.update(*batch((3, 5)))
    assert metrics.compute()["CIDEr"].item() != pytest.approx(CORPUS[-1])


def test_calling_the_metric_scores_the_batch_and_adds_it() -> None:
    metric = CaptionScores()
    of_batches = [metric(*batch(image_ids)) for image_ids in BATCHES]
    assert of_batches[1]["CIDEr"].item() == 0.0  # a single image
    assert of_batches[1]["Bleu_1"].item() == pytest.approx(IMAGES[7][0])
    np.testing.assert_allclose(values(metric.compute()), CORPUS, rtol=1e-6)
    np.testing.assert_allclose(values(pickle.loads(pickle.dumps(metric)).compute()), CORPUS, rtol=1e-6)


def test_captions_of_any_text_come_back_whole() -> None:
    odd = "un café\n\u2028 \ud800 «x» \x00 日本"
    metric = CaptionScores()
    metric.update(odd, [odd])  # one image, as torchmetrics' own text metrics allow
    assert metric.compute()["ROUGE_L"].item() == 1.0


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (["a", "b"], [["a"]], "2 captions and references of 1 images"),
        (["a"], [[]], "at least one reference"),
        (["a"], [[None]], "got None: expected text"),
        ([b"a"], [["a"]], "expected text"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_not_added(preds: list, target: list, message: str) -> None:  # type: ignore[type-arg]
    metric = CaptionScores()
    with pytest.raises(InputError, match=message):
        metric.update(preds, target)
    assert metric.captions == []


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_without_captions_there_are_no_scores() -> None:
    with pytest.raises(InputError, match="no captions yet"):
        CaptionScores().compute()


def score_as_process(rank: int, store: Path) -> list[dict[str, float]]:
    """Score one's own batches together with the other processes, twice."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=3)
    warnings.simplefilter("ignore")
    metric = CaptionScores()
    for image_ids in ([(3, 5), (7,)], [(12, 9)], [])[rank]:
        metric.update(*batch(image_ids))
    first = metric.compute()
    metric.update(*batch((3, 5)))  # a process keeps only its own captions after computing
    return [{name: value.item() for name, value in scores.items()} for scores in (first, metric.compute())]


def test_processes_score_the_captions_of_all_together(tmp_path: Path) -> None:
    """One of the three has none at first."""
    with ProcessPoolExecutor(3, multiprocessing.get_context("fork")) as processes:
        answers = [*processes.map(score_as_process, range(3), [tmp_path / "store"] * 3, timeout=300)]
    again = CaptionScores()
    for image_ids in (*BATCHES, (3, 5), (3, 5), (3, 5)):
        again.update(*batch(image_ids))
    expected = values(again.compute())
    for first, second in answers:
        np.testing.assert_allclose([first[method] for method in METHODS], CORPUS, rtol=1e-6)
        np.testing.assert_allclose([second[method] for method in METHODS], expected, rtol=1e-6)
