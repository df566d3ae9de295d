"""Short descriptions of captioners: their features, their decoding, their training."""

from __future__ import annotations

from seesay.params.captioning import Beam, CaptionerTraining, Decoding, DiverseBeam, Nucleus
from seesay.params.datasets import Features
from seesay.params.references import CLASSIFIERS, FINETUNED


def describe_decoding(decoding: Decoding) -> str:
    """`greedy`, `beam 5`, `diverse beam 6 (3 groups)`, `nucleus 0.9 (best of 5)`."""
    match decoding:
        case Beam():
            return f"beam {decoding.beam_size}"
        case DiverseBeam():
            return f"diverse beam {decoding.beam_size} ({decoding.num_groups} groups)"
        case Nucleus():
            return f"nucleus {decoding.top_p:g} (best of {decoding.num_samples})"
        case _:
            return decoding.method


def describe_encoder(features: Features) -> str:
    """`mobilenet_v2`, `our resnet9`, `fine-tuned mobilenet`; with PCA `mobilenet_v2, PCA 256`."""
    section, _, name = features.encoder.partition("/")
    name = {CLASSIFIERS: "our ", FINETUNED: "fine-tuned "}.get(section, "") + name
    return name if features.num_components is None else f"{name}, PCA {features.num_components}"


def describe_sight(features: Features, looks_at: str) -> str:
    """`mobilenet_v2, 7x7 grid`, `our resnet9, pooled`; the encoder alone where it is not known what is looked at. With
    views of the training images `mobilenet_v2, 7x7 grid, 4 views`."""
    what = describe_encoder(features)
    if looks_at == "grid" and features.grid_size is not None:
        what += f", {features.grid_size}×{features.grid_size} grid"
    elif looks_at == "pooled":
        what += ", pooled"
    return what if features.views is None else f"{what}, {features.views.count} views"


def describe_learning(learning: CaptionerTraining) -> str:
    """`captions`, `captions, also flickr8k`, `SCST on soft_attention`, `captions, on lstm_coco2017`."""
    what = "captions" if learning.self_critical is None else "SCST"
    if learning.parent is not None:
        what += f" on {learning.parent}" if learning.self_critical is not None else f", on {learning.parent}"
    return "".join([what, *(f", also {dataset}" for dataset in learning.datasets[1:])])
