"""Index of an archive in Tiny ImageNet's layout, read without unpacking, and the class subsets."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import file_digest
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
    archives = [file for file in note.files if file.name.endswith(".zip")]
    if len(archives) != 1:
        raise InputError(f"{folder}: expected one zip archive, source.json names {len(archives)}")
    path = folder / archives[0].name
    if not path.is_file():
        raise InputError(f"{path}: no such file, though source.json names it; fetch the source again")
    found = file_digest(path)
    if found != archives[0].sha256:
        raise InputError(f"{path}: has sha256 {found}: source.json says {archives[0].sha256}; fetch the source again")
    return path


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive for reading. Corrupt contents raise `InputError` that names the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{path}: not a readable zip archive: {error}") from None


def read_index(archive: zipfile.ZipFile, path: Path) -> TinyImageNet:
    """Read the archive's index.

    Validation images all lie in one folder, so only `val_annotations.txt` labels them. Every image must be listed once,
    and every class equally often. Raises `InputError` that names `path` and the file in it where the archive does not
    have the layout.
    """
    members = [name for name in archive.namelist() if not name.endswith("/")]
    tops = sorted(name.removesuffix("wnids.txt") for name in members if re.fullmatch(r"([^/]+/)?wnids\.txt", name))
    if len(tops) != 1:
        raise InputError(f"{path}: expected one wnids.txt in its top folder, found {len(tops)}")
    top = tops[0]
    wnids = tuple(line.strip() for line in _lines(archive, f"{top}wnids.txt", path))
    if len(set(wnids)) != len(wnids) or not wnids:
        raise InputError(f"{path}: {top}wnids.txt: expected each class once, got {len(wnids)} lines")
    train: dict[str, list[str]] = {wnid: [] for wnid in wnids}
    val_members: set[str] = set()
    for name in members:
        match re.fullmatch(rf"{re.escape(top)}(?:train/([^/]+)/images/[^/]+|(val/images/[^/]+))", name):
            case None:
                continue
            case found if found[2]:
                val_members.add(found[2])
            case found if found[1] in train:
                train[found[1]].append(name.removeprefix(top))
            case found:
                raise InputError(f"{path}: {name}: its class {found[1]} is not in {top}wnids.txt")
    empty = [wnid for wnid, images in train.items() if not images]
    if empty:
        raise InputError(f"{path}: no images under {top}train/ for: {', '.join(empty[:10])}")
    return TinyImageNet(
        top=top,
        wnids=wnids,
        words=_words(archive, f"{top}words.txt", path),
        train={wnid: tuple(sorted(images, key=_number)) for wnid, images in train.items()},
        val=_val(archive, f"{top}val/val_annotations.txt", path, wnids, val_members),
    )


def _val(
    archive: zipfile.ZipFile, member: str, path: Path, wnids: Sequence[str], val_members: set[str]
) -> tuple[tuple[str, str], ...]:
    labels: dict[str, str] = {}
    for line in _lines(archive, member, path):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in wnids:
            raise InputError(f"{path}: {member}: got {line!r}: expected a file name, a class of wnids.txt, a box")
        if f"val/images/{fields[0]}" in labels:
            raise InputError(f"{path}: {member}: {fields[0]} is listed twice")
        labels[f"val/images/{fields[0]}"] = fields[1]
    missing, unlisted = sorted(labels.keys() - val_members), sorted(val_members - labels.keys())
    if missing:
        raise InputError(f"{path}: {member} lists {len(missing)} missing images: {', '.join(missing[:5])}")
    if unlisted:
        raise InputError(f"{path}: {member} does not list {len(unlisted)} images: {', '.join(unlisted[:5])}")
    counts = Counter(labels.values())
    fewest, most = (choose(wnids, key=lambda wnid: counts[wnid]) for choose in (min, max))
    if counts[fewest] != counts[most] or not counts[most]:
        raise InputError(
            f"{path}: {member}: expected every class equally often, "
            f"got {fewest} {counts[fewest]} times and {most} {counts[most]} times"
        )
    return tuple(sorted(labels.items(), key=lambda pair: _number(pair[0])))


def _words(archive: zipfile.ZipFile, member: str, path: Path) -> dict[str, str]:
    pairs = [line.partition("\t")[::2] for line in _lines(archive, member, path)]
    return {wnid: names.split(",")[0].strip() for wnid, names in pairs}


def _lines(archive: zipfile.ZipFile, member: str, path: Path) -> list[str]:
    try:
        text = archive.read(member).decode("utf-8")
    except KeyError:
        raise InputError(f"{path}: has no {member}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {member}: expected UTF-8 text: {error}") from None
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
