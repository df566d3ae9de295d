"""`seesay predict`: classes and captions for pictures, on the terminal and in files."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from seesay.core.errors import InputError
from seesay.core.files import atomic_path, write_text
from seesay.images.pixels import read_rgb
from seesay.serving.bundle import read_bundle
from seesay.serving.captioner import Captioner
from seesay.serving.load import build, load_named, released_bundles
from seesay.serving.predictor import Caption, Classifier, Prediction

Speaker = Classifier | Captioner
Answers = Sequence[Prediction | Caption]

COLUMNS = ("image", "model", "rank", "label", "wnid", "score", "caption", "log_probability", "error")


@dataclass(frozen=True)
class PictureAnswers:
    """What each model, by name, says about the picture at `path`; or the `error` that made it unreadable."""

    path: str
    answers: dict[str, Answers]
    error: str | None = None


def predict(root: Path, options: argparse.Namespace) -> int:
    """Run `seesay predict`; returns 1 if a picture could not be read."""
    paths = find_pictures([Path(path) for path in options.images])
    models = load_speakers(root, options.model, device=options.device)
    if options.captions > 1 and not any(isinstance(model, Captioner) for model in models):
        raise InputError("--captions: none of the models is a captioner")
    progress = tqdm(total=len(paths), unit="image", disable=len(paths) < 20 or not sys.stderr.isatty())
    found, to_stdout = [], "-" in (options.json, options.csv)
    with progress:
        for one in _answer_all(paths, models, options):
            progress.update()
            found.append(one)
            if one.error is not None:
                tqdm.write(f"seesay: warning: {one.error}", file=sys.stderr)
            elif not to_stdout:
                tqdm.write(_shown(one), file=sys.stdout)
    if options.json is not None:
        _write(root, options.json, json.dumps([_to_json(one) for one in found], indent=2, ensure_ascii=False) + "\n")
    if options.csv is not None:
        _write(root, options.csv, _to_csv(found))
    unreadable = sum(one.error is not None for one in found)
    if unreadable and len(paths) > 1:
        print(f"seesay: {unreadable} of {len(paths)} pictures could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def load_speakers(root: Path, names: Sequence[str] | None, *, device: str) -> list[Speaker]:
    """Load the models of these names, or those released; autoencoders among these say nothing.

    Raises `InputError` where there is none.
    """
    if names:
        models = [load_named(root, name, device=device) for name in names]
    else:
        models = [build(read_bundle(folder), device=device) for folder in released_bundles(root)]
    speakers = [model for model in models if isinstance(model, Classifier | Captioner)]
    if not speakers:
        raise InputError(f"{models[0].name}: an autoencoder says nothing; expected a classifier or a captioner")
    return sorted(speakers, key=lambda model: isinstance(model, Captioner))  # classes first


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Return the files in `paths`, and those in its folders, at any depth, whose name ends as a picture's.

    Raises `InputError` for a folder without pictures.
    """
    Image.init()
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in Image.EXTENSION and file.is_file())
        if not files:
            raise InputError(f"{path}: no pictures in this folder")
        found += files
    return found


def _answer_all(
    paths: Sequence[Path], models: Sequence[Speaker], options: argparse.Namespace
) -> Iterator[PictureAnswers]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL releases the GIL
        for start in range(0, len(paths), options.batch_size):
            some = paths[start : start + options.batch_size]
            read = list(pool.map(_read, some))
            images = [image for image in read if isinstance(image, Image.Image)]
            answers = {model.name: iter(_answer(model, images, options)) for model in models}
            for path, image in zip(some, read, strict=True):
                if isinstance(image, str):
                    yield PictureAnswers(str(path), {}, image)
                    continue
                one = PictureAnswers(str(path), {name: next(of_model) for name, of_model in answers.items()})
                if options.explain is not None:
                    _save_evidence(options.explain, one)
                yield one


def _read(path: Path) -> Image.Image | str:
    """Return a picture, or the error that it has."""
    try:
        return read_rgb(path)
    except InputError as error:
        return str(error)


def _answer(model: Speaker, images: list[Image.Image], options: argparse.Namespace) -> Sequence[Answers]:
    explain = options.explain is not None
    if isinstance(model, Classifier):
        return model(images, top=options.top, explain=explain)
    return model(images, num_captions=options.captions, explain=explain and model.attends)


def _save_evidence(folder: Path, one: PictureAnswers) -> None:
    """Save the evidence for each class and each word as `<picture>.<model>.<number>-<word>.png`."""
    for name, answers in one.answers.items():
        shown = []
        for answer in answers:
            if isinstance(answer, Prediction):
                shown.append((answer.label, answer.evidence))
            else:
                shown += zip(answer.words, answer.evidence or [], strict=False)
        for number, (word, evidence) in enumerate(shown, start=1):
            stem = re.sub(r"[^\w.-]+", "_", one.path).strip("._")
            label = re.sub(r"\W+", "_", word)[:40]
            if evidence is not None:
                with atomic_path(folder / f"{stem}.{name}.{number:02}-{label}.png") as path:
                    evidence.overlay().save(path)


def _shown(one: PictureAnswers) -> str:
    lines = [one.path]
    for answers in one.answers.values():
        for answer in answers:
            if isinstance(answer, Prediction):
                lines.append(f"  {answer.score:6.1%}  {answer.label}")
            else:
                lines.append(f"  {answer.text}")
    return "\n".join(lines)


def _to_json(one: PictureAnswers) -> dict[str, Any]:
    if one.error is not None:
        return {"image": one.path, "error": one.error}
    answers = {name: [answer.to_json() for answer in of_model] for name, of_model in one.answers.items()}
    return {"image": one.path, "answers": answers}


def _to_csv(found: Sequence[PictureAnswers]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for one in found:
        if one.error is not None:
            table.writerow({"image": one.path, "error": one.error})
        for name, answers in one.answers.items():
            for rank, answer in enumerate(answers, start=1):
                table.writerow({"image": one.path, "model": name, "rank": rank, **answer.to_json()})
    return text.getvalue()


def _write(root: Path, path: str, text: str) -> None:
    if path == "-":
        sys.stdout.write(text)
    else:
        write_text(root / path, text)
