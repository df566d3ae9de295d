"""Cases of reports/captions.html: the same test images with every captioner's captions and attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.plotting.embed import data_uri

MAX_PAGE_BYTES = 1_850_000
"""Limit of pictures and text together: the page stays below 1.9 megabytes, small enough to mail."""

STAGE = "compare_captioners"
_BYTES_PER_CAPTION = 900  # of markup around one caption and its alternatives, without their text


@dataclass(frozen=True)
class Alternative:
    """One caption that decoding returned; `is_chosen` marks the captioner's own caption."""

    caption: str
    cider_d: float
    log_probability: float | None
    is_chosen: bool


@dataclass
class CaseCaption:
    """One captioner's caption of one image.

    `strip` is the picture of its attention and `attention_text` describes it. `strip` is None where the captioner has
    no attention, and where the page has no room for it; then `strip_path` names its file.
    """

    cell: str
    caption: str
    cider_d: float
    alternatives: list[Alternative]
    attention_text: str = ""
    strip: Markup | None = None
    strip_path: str = ""


@dataclass(frozen=True)
class SharedCase:
    """One test image and each captioner's caption of it, the best captioner first."""

    kind: str
    image_id: int
    picture: Markup | None
    references: list[str]
    captions: list[CaseCaption]


@dataclass(frozen=True)
class DatasetCases:
    """A dataset's cases; `left_out` are the captioners with strips for which the page has no room."""

    name: str
    rule: str
    cases: list[SharedCase]
    left_out: list[str] = field(default_factory=list)


def read_shared_cases(paths: Paths, datasets: Sequence[str], *, max_bytes: int = MAX_PAGE_BYTES) -> list[DatasetCases]:
    """Read the cases of those of `datasets` that the comparison has, with as many strips as fit into `max_bytes`.

    All text and images come first. The rest of the room goes to the strips of each dataset's best captioner, then to
    those of the second, and so on. Empty where this workspace has no comparison of captioners.
    """
    folder = paths.figures(STAGE)
    if not (folder / "cases.json").is_file():
        return []
    content = read_stage_json(folder / "cases.json", STAGE, None)
    all_datasets = [_dataset(name, content[name], folder, paths) for name in datasets if name in content]
    room = max_bytes - sum(case_size(case) for dataset in all_datasets for case in dataset.cases)
    max_captions = max((len(case.captions) for dataset in all_datasets for case in dataset.cases), default=0)
    for rank in range(max_captions):
        for dataset in all_datasets:
            for case in dataset.cases:
                if rank < len(case.captions) and case.captions[rank].strip_path:
                    room = _embed_strip(case.captions[rank], paths, room, dataset.left_out)
    return all_datasets


def case_size(case: SharedCase) -> int:
    """Return an upper estimate of the bytes that a case takes without strips."""
    texts = [*case.references, *(one.caption + one.attention_text * 2 for one in case.captions)]
    texts += [other.caption for one in case.captions for other in one.alternatives]
    rows = sum(1 + len(one.alternatives) for one in case.captions)
    escaped = sum(len(Markup.escape(text).encode()) for text in texts)
    return len(case.picture or "") + escaped + _BYTES_PER_CAPTION * len(case.captions) + 120 * rows + 600


def _embed_strip(caption: CaseCaption, paths: Paths, room: int, left_out: list[str]) -> int:
    """Embed a strip where it fits and return the room that remains; where it does not, add to `left_out`."""
    strip = data_uri(paths.root / caption.strip_path)
    if strip is not None and len(strip) <= room:
        caption.strip = strip
        return room - len(strip)
    if caption.cell not in left_out:
        left_out.append(caption.cell)
    return room


def _dataset(name: str, content: Mapping[str, Any], folder: Path, paths: Paths) -> DatasetCases:
    cases = [
        SharedCase(
            kind=str(case["kind"]),
            image_id=int(case["image_id"]),
            picture=data_uri(folder / Path(str(case["image"])).name),
            references=[str(reference) for reference in case["references"]],
            captions=[_caption(entry, folder, paths) for entry in case["captions"]],
        )
        for case in content["cases"]
    ]
    return DatasetCases(name, str(content["rule"]), cases)


def _caption(entry: Mapping[str, Any], folder: Path, paths: Paths) -> CaseCaption:
    alternatives = [
        Alternative(
            str(other["caption"]),
            float(other["cider_d"]),
            None if other["log_probability"] is None else float(other["log_probability"]),
            is_chosen=rank == 0,
        )
        for rank, other in enumerate(entry.get("alternatives", []))
    ]
    caption = CaseCaption(str(entry["cell"]), str(entry["caption"]), float(entry["cider_d"]), alternatives)
    if "attention" in entry:
        caption.strip_path = (folder / Path(str(entry["attention"])).name).relative_to(paths.root).as_posix()
        entropies = ", ".join(
            f"{word} {bits:.1f}" for word, bits in zip(entry["words"], entry["entropy_bits"], strict=True)
        )
        caption.attention_text = f"Attention entropy, bits: {entropies}"
    return caption
