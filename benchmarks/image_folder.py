"""The usual data path: JPEG files in folders, torchvision's ImageFolder and transforms, a DataLoader."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Sampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from seesay.compute import Compute
from seesay.core.errors import InputError
from seesay.images.batches import Batch
from seesay.images.packed import PackedImages
from seesay.images.tiny_imagenet import find_archive, read_index
from seesay.params.training import Augmentation
from seesay.sources.members import ZipMembers
from seesay.sources.provenance import SOURCE_FILE, read_source

JPEG_QUALITY = 95
FROM_ARCHIVE = "the archive's own files"
ENCODED_AGAIN = f"encoded again from packed pixels, JPEG quality {JPEG_QUALITY}"


def write_image_folder(folder: Path, images: PackedImages, raw_folder: Path) -> str:
    """Write each training image as a file, with a folder per class in the classes' order; return the files' origin.

    The files are the archive's own if `raw_folder` holds it and its images have the packed size.
    """
    contents = _from_archive(images, raw_folder) if (raw_folder / SOURCE_FILE).is_file() else None
    origin = ENCODED_AGAIN if contents is None else FROM_ARCHIVE
    names = [f"{index:04d}_{one.wnid}" for index, one in enumerate(images.classes)]
    for name in names:
        (folder / name).mkdir(parents=True)
    labelled = zip(contents or _encoded(images), images.train.labels.tolist(), images.train.ids, strict=True)
    for position, (content, label, member) in enumerate(labelled):
        suffix = Path(member).suffix if contents is not None else ".jpg"
        (folder / names[label] / f"{position:06d}{suffix}").write_bytes(content)
    return origin


def usual_transforms(
    augmentation: Augmentation, *, image_size: int, mean: Sequence[float], std: Sequence[float]
) -> v2.Compose:
    """Build `augmentation` image by image: crop and flip on PIL images, then normalisation and a blanked square."""
    steps: list[torch.nn.Module] = []
    if augmentation.crop_padding:
        steps.append(v2.RandomCrop(image_size, padding=augmentation.crop_padding, padding_mode="reflect"))
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip())
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std, inplace=True)]
    side = round(augmentation.cutout * image_size)
    if side:
        area = (side / image_size) ** 2
        steps.append(v2.RandomErasing(p=1.0, scale=(area, area), ratio=(1.0, 1.0), value=0, inplace=True))
    return v2.Compose(steps)


class UsualPath:
    """Batches of a DataLoader, moved to the device; its worker processes persist between epochs."""

    def __init__(
        self, folder: Path, transforms: v2.Compose, *, batch_size: int, num_workers: int, seed: int, compute: Compute
    ) -> None:
        self._compute = compute
        self._generator = torch.Generator().manual_seed(seed)
        dataset = ImageFolder(folder, transforms)
        self._sampler = _Shuffled(len(dataset), generator=self._generator)
        self._batch_size = batch_size
        self._loader: DataLoader[Batch] = DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=self._sampler,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=compute.device.type == "cuda",
            generator=self._generator,
        )

    def batches(self, num_batches: int) -> Iterator[Batch]:
        """Yield `num_batches` batches in a new order; the workers load no more than these and idle in other turns."""
        self._sampler.num_samples = num_batches * self._batch_size
        layout = torch.channels_last if self._compute.channels_last else torch.contiguous_format
        for images, labels in self._loader:
            yield (
                images.to(self._compute.device, memory_format=layout, non_blocking=True),
                labels.to(self._compute.device, non_blocking=True),
            )


class _Shuffled(Sampler[int]):
    """The first `num_samples` positions of a new random order, or of several in sequence."""

    def __init__(self, num_images: int, *, generator: torch.Generator) -> None:
        self.num_images, self.num_samples, self._generator = num_images, num_images, generator

    def __iter__(self) -> Iterator[int]:
        for start in range(0, self.num_samples, self.num_images):
            order = torch.randperm(self.num_images, generator=self._generator)
            yield from order[: self.num_samples - start].tolist()


def _from_archive(images: PackedImages, raw_folder: Path) -> list[bytes] | None:
    """Return the training images' files, or None if their size differs from that of the packed ones."""
    path = find_archive(raw_folder, read_source(raw_folder))
    with ZipMembers(path) as archive:
        top = read_index(archive, path).top
        try:
            contents = [archive.read(top + member) for member in images.train.ids]
        except KeyError as error:
            raise InputError(f"{path}: an image of {images.name} is missing: {error}; prepare it again") from None
    with Image.open(io.BytesIO(contents[0])) as first:
        fits = first.size == (images.image_size, images.image_size)
    return contents if fits else None


def _encoded(images: PackedImages) -> Iterator[bytes]:
    for pixels in images.train.images:
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, format="JPEG", quality=JPEG_QUALITY)
        yield content.getvalue()
