"""Index of an archive in Tiny ImageNet's layout, read without unpacking, and the class subsets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import file_digest
from seesay.sources.members import ZipMembers, is_image_name, is_zip_name, normal_name
from seesay.sources.provenance import SourceNote


@dataclass(frozen=True)
class TinyImageNet:
    """The index of an archive. Member names are relative to its top folder, for example `val/images/val_0.JPEG`.

    `train` has the members by wnid. `val` has the (member, wnid) pairs of `val_annotations.txt`. Both are in the order
    of the numbers in the file names. `words` has the first name of each class by wnid.
    """

    top: str
    wnids: tuple[str, ...]
    words: dict[str, str]
    train: dict[str, tuple[str, ...]]
    val: tuple[tuple[str, str], ...]


def find_archive(folder: Path, note: SourceNote) -> Path:
    """Return the path of the only archive in a raw folder.

    Raises `InputError` where there is not exactly one, or where its sha256 is not that of the source note.
    """
    archives = [file for file in note.files if is_zip_name(file.name) or "." not in file.name]
    if len(archives) != 1:
        raise InputError(f"{folder}: expected one zip archive, source.json names {len(archives)}")
    path = folder / archives[0].name
    if not path.is_file():
        raise InputError(f"{path}: no such file, although source.json names it; fetch the source again")
    found = file_digest(path)
    if found != archives[0].sha256:
        raise InputError(f"{path}: has sha256 {found}: source.json says {archives[0].sha256}; fetch the source again")
    return path


def read_index(archive: ZipMembers, path: Path) -> TinyImageNet:
    """Read the archive's index.

    Officially all validation images lie in one folder, and `val_annotations.txt` labels them. Re-packed archives may
    have them in class folders, with or without that file. Every image must be listed once, and every class equally
    often. Raises `InputError` that names `path` and the file in it where the archive does not have the layout.
    """
    tops = sorted(name.removesuffix("wnids.txt") for name in archive.names if f"/{name}".endswith("/wnids.txt"))
    if len(tops) != 1:
        found = f": {', '.join(f'{top}wnids.txt' for top in tops[:5])}" if tops else ""
        raise InputError(f"{path}: expected one wnids.txt, found {len(tops)}{found}")
    top = tops[0]
    wnids = tuple(line.strip() for line in _lines(archive, f"{top}wnids.txt", path))
    if len(set(wnids)) != len(wnids) or not wnids:
        raise InputError(f"{path}: {top}wnids.txt: expected each class once, got {len(wnids)} lines")
    train: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    val_folders: dict[str, str] = {}
    for name in (name.removeprefix(top) for name in archive.names if name.startswith(top)):
        *folders, file_name = name.split("/")
        split, folders = folders[:1], folders[1:]
        if split not in (["train"], ["val"]) or not folders or not _is_image(folders, file_name):
            continue
        if split == ["val"]:
            val_folders[name] = folders[0]
        elif folders[0] in train:
            train[folders[0]].append(name)
        else:
            raise InputError(f"{path}: {top}{name}: its class {folders[0]} is not in {top}wnids.txt")
    empty = [wnid for wnid, images in train.items() if not images]
    if empty:
        raise InputError(f"{path}: no images under {top}train/ for: {', '.join(empty[:10])}")
    return TinyImageNet(
        top=top,
        wnids=wnids,
        words=_words(archive, f"{top}words.txt", path),
        train={wnid: tuple(sorted(images, key=_number)) for wnid, images in train.items()},
        val=_val(archive, f"{top}val/val_annotations.txt", path, wnids, val_folders),
    )


def _is_image(folders: Sequence[str], file_name: str) -> bool:
    """Return whether a file below `train/` or `val/` is an image: in a folder `images`, any file counts as one."""
    is_beside_boxes = len(folders) == 1 and folders[0] != "images"
    return (folders[-1] == "images" and len(folders) <= 2) or (is_beside_boxes and is_image_name(file_name))


def _val(
    archive: ZipMembers, member: str, path: Path, wnids: Sequence[str], val_folders: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return (member, wnid) of each validation image; `val_folders` has the first folder of each below `val/`."""
    if member in archive.names or not val_folders or "images" in val_folders.values():
        labels = _val_annotations(archive, member, path, wnids, val_folders)
    else:
        labels = dict(val_folders)
    wrong = [name for name, wnid in val_folders.items() if wnid not in ("images", labels[name])]
    wrong += [name for name, wnid in labels.items() if wnid not in wnids]
    if wrong:
        raise InputError(
            f"{path}: {wrong[0]}: its folder is not the class in val_annotations.txt, or wnids.txt lacks the class"
        )
    counts = Counter(labels.values())
    fewest, most = (choose(wnids, key=lambda wnid: counts[wnid]) for choose in (min, max))
    if counts[fewest] != counts[most] or not counts[most]:
        raise InputError(
            f"{path}: {member}: expected equally many images of every class, "
            f"got {counts[fewest]} of {fewest} and {counts[most]} of {most}"
        )
    return tuple(sorted(labels.items(), key=lambda pair: _number(pair[0])))


def _val_annotations(
    archive: ZipMembers, member: str, path: Path, wnids: Sequence[str], val_folders: Mapping[str, str]
) -> dict[str, str]:
    """Return the class of each validation image that the annotations list; every image must be listed."""
    members: dict[str, str] = {}
    for name in val_folders:
        file_name = name.rsplit("/", 1)[-1]
        if members.setdefault(file_name, name) != name:
            raise InputError(f"{path}: {name} and {members[file_name]} have the same name in {member}")
    labels: dict[str, str] = {}
    missing: list[str] = []
    for line in _lines(archive, member, path):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in wnids:
            raise InputError(f"{path}: {member}: got {line[:200]!r}: expected a file name, a class of wnids.txt, a box")
        name = members.get(normal_name(fields[0]), f"val/images/{fields[0]}")
        if name in labels:
            raise InputError(f"{path}: {member}: {fields[0]} is listed twice")
        labels[name] = fields[1]
        missing += [name] if name not in val_folders else []
    unlisted = sorted(val_folders.keys() - labels.keys())
    if missing:
        raise InputError(f"{path}: {member} lists {len(missing)} missing images: {', '.join(sorted(missing)[:5])}")
    if unlisted:
        raise InputError(f"{path}: {member} does not list {len(unlisted)} images: {', '.join(unlisted[:5])}")
    return labels


def _words(archive: ZipMembers, member: str, path: Path) -> dict[str, str]:
    pairs = [line.partition("\t")[::2] for line in _lines(archive, member, path)]
    return {wnid: names.split(",")[0].strip() for wnid, names in pairs}


def _lines(archive: ZipMembers, member: str, path: Path) -> list[str]:
    if member not in archive.names:
        raise InputError(f"{path}: has no {member}")
    text = archive.read_text(member)
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _number(member: str) -> tuple[int, str]:
    """Return a sort key that puts `val_9` before `val_10`. Names without a number are sorted as text."""
    match = re.search(r"_(\d+)\.[^./]+$", member)
    return (int(match[1]) if match else -1, member)


# TinyImageNet30, the subset that public course projects use.
TINY30 = (
    "n01443537",  # goldfish
    "n01855672",  # goose
    "n01882714",  # koala
    "n01910747",  # jellyfish
    "n02056570",  # king penguin
    "n02085620",  # Chihuahua
    "n02129165",  # lion
    "n02165456",  # ladybug
    "n02190166",  # fly
    "n02206856",  # bee
    "n02226429",  # grasshopper
    "n02279972",  # monarch
    "n02395406",  # hog
    "n02410509",  # bison
    "n02486410",  # baboon
    "n02504458",  # African elephant
    "n02509815",  # lesser panda
    "n02948072",  # candle
    "n02963159",  # cardigan
    "n03544143",  # hourglass
    "n03584254",  # iPod
    "n04070727",  # refrigerator
    "n04259630",  # sombrero
    "n04507155",  # umbrella
    "n07614500",  # ice cream
    "n07695742",  # pretzel
    "n07734744",  # mushroom
    "n07753592",  # banana
    "n07873807",  # pizza
    "n07920052",  # espresso
)

# None stands for every class of the source. tiny10 and tiny20 are the first classes of TINY30 by wnid.
SUBSETS: dict[str, tuple[str, ...] | None] = {
    "tiny10": TINY30[:10],
    "tiny20": TINY30[:20],
    "tiny30": TINY30,
    "tiny200": None,
    "scenes10": None,
}
NUM_CLASSES = {"tiny200": 200, "scenes10": 10}


def choose_classes(subset: str, wnids: Sequence[str], *, key: str, archive: Path) -> tuple[str, ...]:
    """Return the sorted wnids of a subset. A class index is a position in them.

    `wnids` are the classes of the source. Raises `InputError` that names `key` for an unknown subset, and one that
    also names `archive` for a source without exactly the classes that the subset needs.
    """
    if subset not in SUBSETS:
        raise InputError(f"{key}: got {subset!r}: expected one of {', '.join(SUBSETS)}")
    classes = SUBSETS[subset]
    if classes is None:
        if len(wnids) != NUM_CLASSES[subset]:
            raise InputError(f"{key}: got {subset!r}: it has {NUM_CLASSES[subset]} classes, {archive} has {len(wnids)}")
        return tuple(sorted(wnids))
    missing = [wnid for wnid in classes if wnid not in set(wnids)]
    if missing:
        raise InputError(f"{key}: got {subset!r}: {archive} lacks {len(missing)} of its classes: {', '.join(missing)}")
    return classes
