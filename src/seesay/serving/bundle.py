"""Bundles: a trained model in a folder that works without the repository, in three files.

`model.safetensors` holds the weights of all networks, `config.json` everything else that prediction needs, and
`README.md` is the model card. Nothing in them is executed. `config.json` states its own digest and that of the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import Tensor

from seesay.core.errors import InputError
from seesay.core.files import atomic_directory, read_json, write_bytes, write_json, write_text
from seesay.core.settings import validate
from seesay.images.pixels import Interpolation, Transform
from seesay.training.checkpoint import Checkpoint, parse_checkpoint

FORMAT = "seesay-bundle-1"
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"

Pixels = Annotated[int, Field(ge=1, le=100_000)]


class Part(BaseModel):
    """A part of `config.json`: unknown keys and wrong types are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class TransformPart(Part):
    """What happens to an image before the network sees it, but for the normalisation, which is part of the network."""

    image_size: Pixels
    resize_size: Pixels
    interpolation: Interpolation

    def build(self) -> Transform:
        return Transform(self.image_size, self.resize_size, self.interpolation)


class ClassPart(Part):
    """A class: its name, and its WordNet id where it has one."""

    wnid: str
    label: str


class EncoderPart(Part):
    """A captioner's encoder: timm's `network`, `small_cnn`, or `classifier`, whose `checkpoint` is described.

    `grid_size` is the side of its grid of features. With `num_components`, its features are projected on that many
    principal components.
    """

    transform: TransformPart
    network: str
    name: str
    grid_size: Pixels | None = None
    num_components: Pixels | None = None
    checkpoint: dict[str, Any] | None = None


class VocabularyPart(Part):
    """A captioner's vocabulary, as `Vocabulary` has it; `tokens` by id."""

    tokens: list[str]
    min_count: int
    tokenizer_version: str
    captions_digest: str


class Config(Part):
    """The content of `config.json`, but for the digests.

    `checkpoint` describes the network that the stage trained (`Checkpoint` without its weights). `name` is the
    experiment's. A classifier has `transform`, `classes` and `temperature`, by which its logits are divided before
    softmax, so that probabilities are calibrated. An autoencoder has `transform`. A captioner has `encoders`, in the
    order of the features that it names, a `vocabulary` and `decoding`. `metrics` are those of evaluation, `substitutes`
    the files that were used in place of official ones, and `run` says which run trained it, where that is known.
    """

    kind: Literal["classifier", "autoencoder", "captioner"]
    name: str
    seesay: str
    checkpoint: dict[str, Any]
    metrics: dict[str, float]
    data: dict[str, JsonValue]
    substitutes: list[str]
    run: dict[str, str]
    transform: TransformPart | None = None
    classes: list[ClassPart] = Field(default_factory=list)
    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    encoders: list[EncoderPart] = Field(default_factory=list)
    vocabulary: VocabularyPart | None = None
    decoding: dict[str, Any] | None = None


@dataclass(frozen=True)
class Bundle:
    """A model's config and its tensors by name: `model.<name>`, and for encoder i `encoders.<i>.<name>`."""

    config: Config
    tensors: Mapping[str, Tensor] = field(repr=False)
    where: Path = Path(CONFIG_FILE)  # for messages

    def checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the network that the stage trained; raises `InputError` for one that is damaged."""
        return parse_checkpoint(self.config.checkpoint, self.part("model"), where=self.where)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors below `prefix`, by name."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


def write_bundle(folder: Path, bundle: Bundle, card: str) -> None:
    """Write a bundle's three files, all or nothing; equal bundles give equal bytes."""
    from safetensors.torch import save

    # Copies: safetensors refuses tensors that share memory, such as tied weights.
    weights = save({name: tensor.detach().clone().contiguous() for name, tensor in bundle.tensors.items()})
    content: dict[str, Any] = {"format": FORMAT, **bundle.config.model_dump(exclude_none=True)}
    content["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    with atomic_directory(folder) as new:
        write_bytes(new / WEIGHTS_FILE, weights)
        write_json(new / CONFIG_FILE, {**content, "digest": _digest(content)})
        write_text(new / CARD_FILE, card)


def read_bundle(folder: Path) -> Bundle:
    """Read the bundle in `folder`; raises `InputError` where a file is missing, damaged or was changed."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    content: Any = read_json(path)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(f"{path}: not a bundle: expected the format {FORMAT!r}")
    if content.pop("digest", None) != _digest({"format": FORMAT, **content}):
        raise InputError(f"{path}: damaged, or changed after it was written: its digest does not match")
    digest = content.pop("weights_sha256", None)
    config: Config = validate(content, Config, where=str(path))
    try:
        weights = weights_path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{weights_path}: no such file") from None
    if hashlib.sha256(weights).hexdigest() != digest:
        raise InputError(f"{weights_path}: damaged, or changed after it was written: its digest is not that in {path}")
    try:
        return Bundle(config, load(weights), path)
    except SafetensorError as error:
        raise InputError(f"{weights_path}: not readable: {error}") from None


def is_bundle(folder: Path) -> bool:
    """Return whether `folder` looks like a bundle."""
    return (folder / CONFIG_FILE).is_file()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


_USE = {
    "classifier": "Naming which of its {num_classes} classes a picture shows.",
    "captioner": "Describing a photograph in one English sentence.",
    "autoencoder": "Compressing small pictures to latents and restoring them, for study.",
}

_CALL = {
    "classifier": 'model("picture.jpg", top=5)  # labels with calibrated probabilities',
    "captioner": 'model("picture.jpg", num_captions=3)  # captions, best first',
    "autoencoder": 'model("picture.jpg")  # a PIL image',
}

_LIMITS = {
    "classifier": "It knows only the classes below and gives one of them to every picture, also to one that shows none "
    "of them. It sees a picture of {size} x {size} pixels: the centre, resized.",
    "captioner": "It describes what its training photographs show, with their words and their biases, and is often "
    "wrong about counts, colours and relations. Do not rely on it where a mistake does harm, nor for judging people.",
    "autoencoder": "It restores pictures of {size} x {size} pixels; details are lost.",
}

_METRICS = {
    "test/top1": "top-1 accuracy",
    "test/top5": "top-5 accuracy",
    "test/balanced_accuracy": "balanced accuracy",
    "test/ece_calibrated": "expected calibration error, calibrated",
    "test/bleu4": "BLEU-4",
    "test/rouge_l": "ROUGE-L",
    "test/cider_d": "CIDEr-D",
    "test/psnr": "PSNR, dB",
    "test/ssim": "SSIM",
}
"""The metrics that a card shows, with their intervals where evaluation gives them."""


def model_card(config: Config) -> str:
    """Return a model card as Markdown: use, limits, data, metrics with intervals, substitutes and licence notes."""
    values = {
        "num_classes": len(config.classes),
        "size": config.transform.image_size if config.transform is not None else 0,
    }
    architecture = config.checkpoint.get("architecture", {}).get("name", "unknown")
    encoders = "".join(f", on features of `{encoder.name}` ({encoder.network})" for encoder in config.encoders)
    sections = {
        "Use": f"{_USE[config.kind].format(**values)} A {config.kind} for research and teaching, not evaluated for "
        f'anything else.\n\n```python\nimport seesay\n\nmodel = seesay.load("path/of/this/folder")\n'
        f"{_CALL[config.kind]}\n```",
        "Limits": _LIMITS[config.kind].format(**values),
        "Data": _data(config),
        "Metrics": _metrics(config.metrics),
        "Licences": _licences(config),
    }
    if config.classes:
        sections["Classes"] = ", ".join(one.label.split(",")[0] for one in config.classes)
    if config.run:
        sections["Run"] = "\n".join(f"- {key}: `{value}`" for key, value in sorted(config.run.items()))
    title = f"# {config.name}\n\nA {config.kind} ({architecture}{encoders}), trained with seesay {config.seesay}.\n"
    return title + "".join(f"\n## {heading}\n\n{text}\n" for heading, text in sections.items())


def _licences(config: Config) -> str:
    files = config.data["files"]
    assert isinstance(files, Mapping)
    text = "The code is under the MIT licence. The weights follow from the files above, whose licences bind their use"
    named = " ".join([str(config.data["dataset"]), *map(str, files.values())]).lower()
    owners = [name for name in ("Flickr", "ImageNet", "COCO") if name.lower() in named]
    if not owners:
        return f"{text}."
    return f"{text}: photographs of {', '.join(owners)} are for research, and belong to their authors."


def _data(config: Config) -> str:
    files = config.data["files"]
    assert isinstance(files, Mapping)
    lines = [f"Dataset `{config.data['dataset']}`, digest `{config.data['digest']}`, from:\n"]
    lines += [f"- {name}: {url}" for name, url in files.items()]
    if config.substitutes:
        names = ", ".join(config.substitutes)
        lines.append(f"\nSubstitutes, not known to be the official files: {names}.")
    return "\n".join(lines)


def _metrics(metrics: Mapping[str, float]) -> str:
    rows = []
    for key, name in _METRICS.items():
        if key in metrics:
            low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
            interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
            rows.append(f"| {name} | {metrics[key]:.4g} | {interval} |")
    if not rows:
        return "Not evaluated."
    return "\n".join(["On test images:\n", "| metric | value | 95 % interval |", "|---|---:|---|", *rows])
