"""A drop-in for pycocoevalcap 1.2 that needs no Java: its classes, with the same arguments and results.

Only the import changes: `from seesay import COCOEvalCap` in place of `from pycocoevalcap.eval import COCOEvalCap`, and
`from seesay.captioning.coco_eval import Bleu, Cider, PTBTokenizer, Rouge` for its single scorers. docs/captions.md says
what differs.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from seesay.captioning.data.tokenizer import tokenize_references
from seesay.captioning.metrics.cider import CiderReferences
from seesay.captioning.metrics.java import (
    JAR,
    find_packaged_file,
    meteor_java,
    open_meteor,
    spice_command,
    spice_java,
    why_no_meteor,
)
from seesay.captioning.metrics.ngrams import MAX_ORDER, bleu_scores, bleu_statistics, image_rouge_l
from seesay.core.errors import InputError, shorten

ImageId = TypeVar("ImageId", bound=Hashable)
Texts = Mapping[ImageId, Sequence[str]]
"""Captions by image, as text: tokens with spaces between them, as `PTBTokenizer` returns them."""


class Captions(Protocol):
    """The part of pycocotools' `COCO` that is used, whether of annotations or of results (`COCO.loadRes`)."""

    imgToAnns: Mapping[Any, Sequence[Mapping[str, Any]]]

    def getImgIds(self) -> Sequence[Any]: ...


class COCOEvalCap:
    """BLEU-1 to BLEU-4, METEOR, ROUGE-L, CIDEr-D and SPICE of the captions in `coco_results`.

    `coco` has the references, `coco_results` one caption for each image: `COCO(path)` and `coco.loadRes(path)` of
    pycocotools. `params["image_id"]` lists the images to score, at first all of `coco`. Afterwards `eval` has the
    corpus values, `evalImgs` a dict for each image and `imgToEval` the same by image id. The names are `Bleu_1` to
    `Bleu_4`, `METEOR`, `ROUGE_L`, `CIDEr` (CIDEr-D, in [0, 10]) and `SPICE`; all others are in [0, 1].

    METEOR and SPICE are Java programs, of which an installed pycocoevalcap has the files; `spice_dir` is another folder
    with SPICE's. Where Java or the files are missing they are left out, with a warning.
    """

    def __init__(self, coco: Captions, coco_results: Captions, *, spice_dir: Path | str | None = None) -> None:
        self.coco, self.cocoRes = coco, coco_results
        self.params: dict[str, Any] = {"image_id": coco.getImgIds()}
        self.eval: dict[str, float] = {}
        self.imgToEval: dict[Any, dict[str, Any]] = {}
        self.evalImgs: list[dict[str, Any]] = []
        self._spice_dir = None if spice_dir is None else Path(spice_dir)

    def evaluate(self) -> None:
        """Score the images.

        Raises `InputError` for images without a reference, without a caption or with several, and for a `spice_dir`
        from which SPICE cannot run.
        """
        image_ids = list(dict.fromkeys(self.params["image_id"]))
        if missing := [image_id for image_id in image_ids if not self.cocoRes.imgToAnns.get(image_id)]:
            hint = "params['image_id'] = coco_results.getImgIds() leaves them out"
            raise InputError(f"{len(missing)} of {len(image_ids)} images have no caption: {shorten(missing)}; {hint}")
        spice, why_no_spice = self._find_spice()
        if notes := [note for note in (why_no_meteor().replace("meteor_java", "METEOR"), why_no_spice) if note]:
            warnings.warn("; ".join(notes), stacklevel=2)
        self.eval, self.imgToEval = {}, {}
        with open_meteor() as meteor:  # it loads while the others work
            tokenizer = PTBTokenizer()
            gts = tokenizer.tokenize({image_id: self.coco.imgToAnns.get(image_id, ()) for image_id in image_ids})
            res = tokenizer.tokenize({image_id: self.cocoRes.imgToAnns.get(image_id, ()) for image_id in image_ids})
            for order, (score, scores) in enumerate(zip(*Bleu().compute_score(gts, res), strict=True), start=1):
                self._add(f"Bleu_{order}", score, scores, image_ids)
            if meteor is not None:
                self._add("METEOR", *meteor_java(*_tokens(gts, res), process=meteor), image_ids)
        self._add("ROUGE_L", *Rouge().compute_score(gts, res), image_ids)
        self._add("CIDEr", *Cider().compute_score(gts, res), image_ids)
        if spice is not None:
            f_scores = spice_java([caption for [caption] in res.values()], list(gts.values()), command=spice)
            self._add("SPICE", float(np.nanmean(f_scores)), [{"All": {"f": f}} for f in f_scores.tolist()], image_ids)
        self.setEvalImgs()

    def setEval(self, score: float, method: str) -> None:
        self.eval[method] = score

    def setImgToEvalImgs(self, scores: Iterable[Any], imgIds: Iterable[Any], method: str) -> None:
        for image_id, score in zip(imgIds, scores, strict=False):
            self.imgToEval.setdefault(image_id, {"image_id": image_id})[method] = score

    def setEvalImgs(self) -> None:
        self.evalImgs = list(self.imgToEval.values())

    def _add(self, method: str, score: float, scores: np.ndarray | Sequence[Any], image_ids: Sequence[Any]) -> None:
        self.setEval(score, method)
        self.setImgToEvalImgs(scores.tolist() if isinstance(scores, np.ndarray) else scores, image_ids, method)

    def _find_spice(self) -> tuple[list[str] | None, str]:
        """Return the command that starts SPICE, or None and a sentence on what is missing."""
        if self._spice_dir is not None:
            return spice_command(self._spice_dir), ""
        jar = find_packaged_file("pycocoevalcap.spice", JAR)
        if jar is None:
            return None, "SPICE is left out: the package pycocoevalcap, which has it, is missing"
        try:
            return spice_command(jar.parent), ""
        except InputError as error:
            return None, f"SPICE is left out: {error}"


class PTBTokenizer:
    """The tokenizer of all scores, without Java (`seesay.captioning.data.tokenizer`)."""

    def tokenize(self, captions_for_image: Mapping[ImageId, Iterable[Mapping[str, Any]]]) -> dict[ImageId, list[str]]:
        """Return each image's captions as text of tokens. A caption is a mapping with the key `caption`."""
        captions = {
            image_id: [_caption(entry, image_id) for entry in entries]
            for image_id, entries in captions_for_image.items()
        }
        tokens = tokenize_references(list(captions.values()))
        return {
            image_id: [" ".join(caption) for caption in of_image]
            for image_id, of_image in zip(captions, tokens, strict=True)
        }


class Bleu:
    """BLEU-1 to BLEU-`n`, of the closest reference length."""

    def __init__(self, n: int = MAX_ORDER) -> None:
        if not 1 <= n <= MAX_ORDER:
            raise InputError(f"Bleu: n: got {n}: expected 1 to {MAX_ORDER}")
        self.n = n

    def compute_score(
        self, gts: Texts[Any], res: Texts[Any], verbose: int = 0
    ) -> tuple[list[float], list[list[float]]]:
        """Return n corpus values, and n lists of the images' values."""
        statistics = bleu_statistics(*_tokens(gts, res))
        corpus = bleu_scores(statistics.sum(axis=0)[None])[0, : self.n]
        return corpus.tolist(), bleu_scores(statistics)[:, : self.n].T.tolist()

    def method(self) -> str:
        return "Bleu"


class Rouge:
    """ROUGE-L."""

    def compute_score(self, gts: Texts[Any], res: Texts[Any]) -> tuple[float, np.ndarray]:
        """Return the mean, and the images' values, float64 (N,)."""
        scores = image_rouge_l(*_tokens(gts, res))
        return float(scores.mean()), scores

    def method(self) -> str:
        return "Rouge"


class Cider:
    """CIDEr-D, with document frequencies of the given references."""

    def compute_score(self, gts: Texts[Any], res: Texts[Any]) -> tuple[float, np.ndarray]:
        """Return the mean, and the images' values, float64 (N,)."""
        predictions, references = _tokens(gts, res)
        scores = CiderReferences(references).score(predictions)
        return float(scores.mean()), scores

    def method(self) -> str:
        return "CIDEr"


def _tokens(gts: Texts[Any], res: Texts[Any]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Return the captions and the references of each image of `gts`, as tokens."""
    if not gts:
        raise InputError("expected captions of at least one image, got none")
    for problem, images in (
        ("no reference", [image_id for image_id, of_image in gts.items() if not of_image]),
        ("no caption", [image_id for image_id in gts if not res.get(image_id)]),
        ("several captions, expected one", [image_id for image_id, of_image in res.items() if len(of_image) > 1]),
        ("a caption and no reference", [image_id for image_id in res if image_id not in gts]),
    ):
        if images:
            raise InputError(f"{len(images)} of {len(gts)} images have {problem}: {shorten(images)}")
    return [res[image_id][0].split() for image_id in gts], [[text.split() for text in gts[i]] for i in gts]


def _caption(entry: Mapping[str, Any], image_id: object) -> str:
    caption = entry.get("caption")
    if not isinstance(caption, str):
        raise InputError(f"image {shorten(image_id)}: caption: got {shorten(caption)}: expected text")
    return caption
