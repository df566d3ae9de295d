"""Compose docs/images/demo.webp from the demo's results: run `make demo`, then `python docs/make_picture.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.explain import read_attention
from seesay.captioning.figures.attention import draw_attention
from seesay.classification.networks.registry import restore_classifier
from seesay.core.paths import Paths
from seesay.images.packed import read_packed_images
from seesay.plotting.panels import font
from seesay.training.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIER, CAPTIONER, DATASET, IMAGE = "resnet9", "soft_attention_reward_scenes", "scenes", 782
GROUND, WORD, QUIET, BAR = "#16181b", "#e6e8ea", "#a4abb3", "#56b4e9"  # dark: suits a light page and a dark one
SIDE, MARGIN, HEAD = 208, 14, 236


def top_classes(paths: Paths, picture: Image.Image, count: int = 3) -> list[tuple[str, float]]:
    """The classifier's `count` most probable classes of `picture`, scaled to the size that it was trained on."""
    checkpoint = load_checkpoint(paths.classifier(CLASSIFIER), kind="classifier")
    size, classes = int(checkpoint.sizes["image_size"]), read_packed_images(paths.images(checkpoint.dataset)).classes
    pixels = np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    mean, std = (np.array(checkpoint.normalisation[name], np.float32) for name in ("mean", "std"))
    with torch.inference_mode():
        batch = torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)[None]
        found = restore_classifier(checkpoint).eval()(batch).softmax(1)[0].topk(count)
    return [(classes[int(index)].label, float(score)) for score, index in zip(*found, strict=True)]


def main(workspace: Path = ROOT / ".work/demo", out: Path = ROOT / "docs/images/demo.webp") -> None:
    paths = Paths(workspace)
    captions, attention = read_caption_records(paths.captions(DATASET)), read_attention(paths.attention(CAPTIONER))
    row = next(row for row in captions.rows("test") if captions.records[row].image_id == IMAGE)
    picture, words = open_caption_images(captions, paths)[row].convert("RGB"), attention.words[IMAGE]
    draw_attention(out, picture, words, attention.weights[IMAGE], crop_share=attention.crop_share)
    strip = Image.open(out).convert("RGB")
    canvas = Image.new("RGB", (strip.width, HEAD + strip.height), GROUND)
    canvas.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    canvas.paste(strip, (0, HEAD))
    pen, left = ImageDraw.Draw(canvas), SIDE + 3 * MARGIN
    for number, (label, score) in enumerate(top_classes(paths, picture)):
        y = MARGIN + 34 * number
        pen.text((left, y), f"{label}  {score:.0%}", fill=WORD, font=font(18))
        pen.rectangle((left + 150, y + 4, left + 150 + int(360 * score), y + 19), fill=BAR)
    pen.text((left, 132), f"caption: {' '.join(words)}", fill=WORD, font=font(18))
    pen.text((left, 170), f"reference: {captions.records[row].captions[0]}", fill=QUIET, font=font(18))
    canvas.save(out, format="WEBP", quality=80, method=6)


if __name__ == "__main__":
    main()
