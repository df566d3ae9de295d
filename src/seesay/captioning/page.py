"""What does every captioner say of the same images, and where did it look? What reports/captions.html shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from seesay.core.paths import Paths
from seesay.core.stage import read_stage_json
from seesay.plotting.embed import embedded

MAX_PAGE_BYTES = 1_850_000
"""Of pictures and text together, so that the page stays below 1.9 megabytes: small enough to mail."""

STAGE = "compare_captioners"
_BYTES_PER_CAPTION = 900  # of markup around one caption and its alternatives, their text apart


@dataclass(frozen=True)
class Alternative:
    """`is_chosen`: the caption the captioner gives."""

    caption: str
    cider_d: float
    log_probability: float | None
    is_chosen: bool


@dataclass
class Said:
    """What one captioner says of one image. `looked` describes its strip in words; the strip is None where the
    captioner has none, or where `strip_path`, which names its file, says that the page has no room for it."""

    cell: str
    caption: str
    cider_d: float
    alternatives: list[Alternative]
    looked: str = ""
    strip: Markup | None = None
    strip_path: str = ""


@dataclass(frozen=True)
class SharedCase:
    """One test image and what each captioner says of it, the best captioner first."""

    kind: str
    image_id: int
    picture: Markup | None
    references: list[str]
    said: list[Said]


@dataclass(frozen=True)
class DatasetCases:
    """A dataset's cases; `left_out` are the captioners whose strips the page has no room for, at least not for all."""

    name: str
    rule: str
    cases: list[SharedCase]
    left_out: list[str] = field(default_factory=list)


def read_shared_cases(paths: Paths, datasets: Sequence[str], *, max_bytes: int = MAX_PAGE_BYTES) -> list[DatasetCases]:
    """The cases of those of `datasets` that the comparison has, with as many strips as fit into `max_bytes`.

    All text and every image are there. What room they leave goes to the strips of each dataset's best captioner, then
    to those of the second, and so on. Empty where no comparison has been drawn in this workspace.
    """
    folder = paths.figures(STAGE)
    if not (folder / "cases.json").is_file():
        return []
    content = read_stage_json(folder / "cases.json", STAGE, None)
    found = [_dataset(name, content[name], folder, paths) for name in datasets if name in content]
    room = max_bytes - sum(case_size(case) for dataset in found for case in dataset.cases)
    most = max((len(case.said) for dataset in found for case in dataset.cases), default=0)
    for place in range(most):
        for dataset in found:
            for case in dataset.cases:
                if place < len(case.said) and case.said[place].strip_path:
                    room = _embed(case.said[place], paths, room, dataset.left_out)
    return found


def _embed(said: Said, paths: Paths, room: int, left_out: list[str]) -> int:
    """Puts a strip into the page where it fits, which is what becomes of `room`; notes it where it does not."""
    strip = embedded(paths.root / said.strip_path)
    if strip is not None and len(strip) <= room:
        said.strip = strip
        return room - len(strip)
    if said.cell not in left_out:
        left_out.append(said.cell)
    return room


def _dataset(name: str, content: Mapping[str, Any], folder: Path, paths: Paths) -> DatasetCases:
    cases = [
        SharedCase(
            kind=str(case["kind"]),
            image_id=int(case["image_id"]),
            picture=embedded(folder / Path(str(case["image"])).name),
            references=[str(reference) for reference in case["references"]],
            said=[_said(one, folder, paths) for one in case["captions"]],
        )
        for case in content["cases"]
    ]
    return DatasetCases(name, str(content["rule"]), cases)


def _said(entry: Mapping[str, Any], folder: Path, paths: Paths) -> Said:
    alternatives = [
        Alternative(
            str(other["caption"]),
            float(other["cider_d"]),
            None if other["log_probability"] is None else float(other["log_probability"]),
            is_chosen=rank == 0,
        )
        for rank, other in enumerate(entry.get("alternatives", []))
    ]
    said = Said(str(entry["cell"]), str(entry["caption"]), float(entry["cider_d"]), alternatives)
    if "attention" in entry:
        said.strip_path = (folder / Path(str(entry["attention"])).name).relative_to(paths.root).as_posix()
        spread = ", ".join(
            f"{word} {bits:.1f}" for word, bits in zip(entry["words"], entry["entropy_bits"], strict=True)
        )
        said.looked = f"Spread of its attention, bits: {spread}"
    return said


def case_size(case: SharedCase) -> int:
    """About how many bytes a case takes without strips, a little more than it does."""
    texts = [*case.references, *(one.caption + one.looked * 2 for one in case.said)]
    texts += [other.caption for one in case.said for other in one.alternatives]
    rows = sum(1 + len(one.alternatives) for one in case.said)
    escaped = sum(len(Markup.escape(text).encode()) for text in texts)
    return len(case.picture or "") + escaped + _BYTES_PER_CAPTION * len(case.said) + 120 * rows + 600
