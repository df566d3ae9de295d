"""Model cards: the README.md of a bundle."""

from __future__ import annotations

from collections.abc import Mapping

from seesay.serving.bundle import Config

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
        "Licences": "The code is under the MIT licence. The weights follow from the data above, whose licences bind "
        "their use: photographs of Flickr and of ImageNet are for research, and belong to their authors.",
    }
    if config.classes:
        sections["Classes"] = ", ".join(one.label.split(",")[0] for one in config.classes)
    if config.run:
        sections["Run"] = "\n".join(f"- {key}: `{value}`" for key, value in sorted(config.run.items()))
    title = f"# {config.name}\n\nA {config.kind} ({architecture}{encoders}), trained with seesay {config.seesay}.\n"
    return title + "".join(f"\n## {heading}\n\n{text}\n" for heading, text in sections.items())


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
