"""What does one captioner look at in each test image, word by word of the caption it gave?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seesay.compute import Compute
from seesay.data.caption_records import CaptionRecords
from seesay.data.features import Features
from seesay.data.vocabulary import UNK, Vocabulary
from seesay.errors import InputError
from seesay.explain.attention import attend
from seesay.explain.kept_attention import KeptAttention
from seesay.models.captioner import Captioner


def explain_captions(
    captioner: Captioner,
    features: Features,
    captions: CaptionRecords,
    vocabulary: Vocabulary,
    predictions: Sequence[Mapping[str, Any]],
    *,
    batch_size: int,
    compute: Compute,
) -> KeptAttention:
    """The captioner's attention as it says its own test captions, `{"image_id", "caption"}` in the records' order.

    A captioner that looks at pooled features has none. Raises `InputError` for a word that the vocabulary lacks: then
    the captions are not this captioner's.
    """
    transform = features.index.transform
    seen_share = transform["image_size"] / transform["resize_size"]
    if captioner.looks_at != "grid":
        return KeptAttention(captioner.looks_at, seen_share, {}, {})
    words = {int(one["image_id"]): tuple(str(one["caption"]).split()) for one in predictions}
    ids = {image_id: vocabulary.encode(said) for image_id, said in words.items()}
    for image_id, tokens in ids.items():
        if UNK in tokens:
            unknown = words[image_id][tokens.index(UNK)]
            raise InputError(
                f"captions of {captions.name}: image {image_id}: {unknown!r} is not in the captioner's vocabulary: "
                "run caption_images again"
            )
    weights = attend(
        captioner,
        features.seen("grid"),
        captions.rows("test"),
        list(ids.values()),
        batch_size=batch_size,
        compute=compute,
    )
    return KeptAttention("grid", seen_share, words, dict(zip(ids, weights, strict=True)))
