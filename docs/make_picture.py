"""Compose docs/images/demo.webp, and save its scene, from the demo: run `make demo`, then this script."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

import seesay
from seesay.captioning.data.records import open_caption_images, read_caption_records
from seesay.captioning.explain import read_attention
from seesay.captioning.figures.attention import draw_attention
from seesay.core.paths import Paths
from seesay.plotting.panels import font
from seesay.serving.predictor import Classifier

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIER, CAPTIONER, DATASET, IMAGE = "resnet9", "soft_attention_reward_scenes", "scenes", 782
GROUND, WORD, QUIET, BAR = "#16181b", "#e6e8ea", "#a4abb3", "#56b4e9"  # dark: suits a light page and a dark one
SIDE, MARGIN, HEAD = 208, 14, 236


def main(workspace: Path = ROOT / ".work/demo", out: Path = ROOT / "docs/images/demo.webp") -> None:
    paths, classify = Paths(workspace), seesay.load(workspace / f"models/classifiers/{CLASSIFIER}")
    assert isinstance(classify, Classifier)
    captions, attention = read_caption_records(paths.captions(DATASET)), read_attention(paths.attention(CAPTIONER))
    row = next(row for row in captions.rows("test") if captions.records[row].image_id == IMAGE)
    picture, words = open_caption_images(captions, paths)[row].convert("RGB"), attention.words[IMAGE]
    draw_attention(out, picture, words, attention.weights[IMAGE], crop_share=attention.crop_share)
    strip = Image.open(out).convert("RGB")
    canvas = Image.new("RGB", (strip.width, HEAD + strip.height), GROUND)
    canvas.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (MARGIN, MARGIN))
    canvas.paste(strip, (0, HEAD))
    pen, left = ImageDraw.Draw(canvas), SIDE + 3 * MARGIN
    for number, one in enumerate(classify(picture, top=3)):
        y = MARGIN + 34 * number
        pen.text((left, y), f"{one.label}  {one.score:.0%}", fill=WORD, font=font(18))
        pen.rectangle((left + 150, y + 4, left + 150 + int(360 * one.score), y + 19), fill=BAR)
    pen.text((left, 132), f"caption: {' '.join(words)}", fill=WORD, font=font(18))
    pen.text((left, 170), f"reference: {captions.records[row].captions[0]}", fill=QUIET, font=font(18))
    canvas.save(out, format="WEBP", quality=80, method=6)
    picture.save(out.with_name("scene.png"), optimize=True)


if __name__ == "__main__":
    main()
