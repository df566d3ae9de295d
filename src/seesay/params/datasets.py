"""Settings of sources, datasets, vocabularies and features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from seesay.core.settings import AsTuple, CellName, Fraction, NaturalInt, OneOrTwo, PositiveInt, Settings
from seesay.params.augmentation import ResizedCrop
from seesay.params.references import FeatureEncoder

Url = Annotated[str, Field(pattern=r"^(https?|s3|file)://.+[^/]$")]
Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|sha256-prefix:[0-9a-f]{8,63})$")]


class Archive(Settings):
    """One file to fetch: its official URL and what its bytes must hash to.

    `checksum` is `md5:<32 hex>`, `sha256:<64 hex>` or `sha256-prefix:<8 or more hex>` (torchvision's file names carry
    the first eight digits).
    """

    url: Url
    checksum: Checksum

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


Archives = Annotated[tuple[Archive, ...], AsTuple, Field(min_length=1)]


class TinyImageNetSource(Settings):
    kind: Literal["tiny_imagenet"]
    archives: Archives


class ScenesImageSource(Settings):
    """Generated labelled 64x64 drawings, written in Tiny ImageNet's layout."""

    kind: Literal["scenes"]
    seed: NaturalInt
    num_train_per_class: PositiveInt
    num_val_per_class: PositiveInt


ImageSource = Annotated[TinyImageNetSource | ScenesImageSource, Field(discriminator="kind")]


class CocoSource(Settings):
    """COCO 2017 captions, with the archives of all images.

    With `num_images` that many images are fetched one by one instead, chosen with `num_images_seed`, by `num_workers`
    at a time.
    """

    kind: Literal["coco"]
    annotations: Archive
    image_archives: Archives
    num_images: PositiveInt | None = None
    num_images_seed: NaturalInt | None = None
    num_workers: PositiveInt | None = None

    @model_validator(mode="after")
    def _single_images_are_chosen(self) -> CocoSource:
        if self.num_images is not None and (self.num_images_seed is None or self.num_workers is None):
            raise ValueError(f"num_images: got {self.num_images}: expected num_images_seed and num_workers beside it")
        return self


class Flickr8kSource(Settings):
    kind: Literal["flickr8k"]
    text: Archive
    images: Archive


class ScenesCaptionSource(Settings):
    """Generated scenes with five captions each, written in COCO's layout."""

    kind: Literal["scenes"]
    seed: NaturalInt
    num_train: PositiveInt
    num_val: PositiveInt


LocalPath = Annotated[str, Field(min_length=1)]
"""A path of a person's own: absolute, or relative to the workspace's root."""

Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class LocalFile(Settings):
    """A file of a person's own and what its bytes must hash to (`sha256:` and what `sha256sum` says).

    DVC sees this entry, not the file: when the file changes, the stage refuses it until `checksum` says the new one.
    """

    path: LocalPath
    checksum: Sha256


class LocalImages(Settings):
    """A zip archive of images, or a folder of them, which is packed into one.

    `checksum` is that of the archive, of the packed one for a folder. Where it is absent the images are not checked,
    and a change of them alone is brought in by `dvc repro -f fetch_captions@<name>`.
    """

    path: LocalPath
    checksum: Sha256 | None = None


class CocoFilesSplit(Settings):
    """Captions in COCO's format; each `file_name` in them is a path inside `images`."""

    annotations: LocalFile
    images: LocalImages


class CocoFilesSource(Settings):
    """Captions and images of a person's own, in COCO's format; without `val` it is cut from train."""

    kind: Literal["coco_files"]
    train: CocoFilesSplit
    val: CocoFilesSplit | None = None
    test: CocoFilesSplit | None = None

    @property
    def splits(self) -> dict[str, CocoFilesSplit]:
        """The splits that are there, by name: train first."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


CaptionSource = Annotated[
    CocoSource | Flickr8kSource | CocoFilesSource | ScenesCaptionSource, Field(discriminator="kind")
]


class ImageLimits(Settings):
    """The most that a source may lack before the stage fails and names the files."""

    max_undecodable: NaturalInt
    max_left_out_per_class: NaturalInt


class ImageDataset(Settings):
    """A cell of `prepare_images`: a class subset of a source, split into train, val and test."""

    source: CellName
    subset: str
    image_size: PositiveInt
    num_train_per_class: PositiveInt
    num_val_per_class: PositiveInt
    split_seed: NaturalInt
    limits: ImageLimits


class CaptionLimits(Settings):
    max_undecodable: NaturalInt
    max_missing_images: NaturalInt
    max_empty_captions: NaturalInt


class CaptionDataset(Settings):
    """A cell of `prepare_captions`: the caption source of the same name, split by image.

    `val_fraction` cuts val from train, shuffled with `split_seed`, where a source has no val of its own (COCO).
    `karpathy_split` takes the splits from a file instead, in the format of Karpathy's dataset_coco.json; absent, they
    are the source's own.
    """

    limits: CaptionLimits
    val_fraction: Fraction | None = None
    split_seed: NaturalInt | None = None
    karpathy_split: LocalFile | None = None

    @model_validator(mode="after")
    def _splits_come_from_one_place(self) -> CaptionDataset:
        if self.karpathy_split is not None and self.val_fraction is not None:
            raise ValueError(
                f"val_fraction: got {self.val_fraction}: expected none with karpathy_split, which has a val"
            )
        if self.val_fraction is not None and self.split_seed is None:
            raise ValueError(f"val_fraction: got {self.val_fraction}: expected split_seed beside it")
        return self

    @field_validator("val_fraction")
    @classmethod
    def _leaves_both_splits(cls, value: float | None) -> float | None:
        if value is not None and not 0.0 < value < 0.5:
            raise ValueError(f"got {value}: expected more than 0 and less than 0.5, or none")
        return value


class Vocabulary(Settings):
    """A cell of `build_vocabulary`: words seen at least `min_count` times in the training captions of one of
    `datasets`, or of two together."""

    datasets: OneOrTwo
    min_count: PositiveInt

    @model_validator(mode="after")
    def _datasets_differ(self) -> Vocabulary:
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets: got {', '.join(self.datasets)}: expected two different ones")
        return self


class Weights(Settings):
    """A torchvision classification network, and where its pretrained weights are fetched from.

    `small_cnn` alone has no `url` and `checksum`: our own network of fixed filters, which was never trained.
    """

    architecture: str
    url: Url | None = None
    checksum: Checksum | None = None

    @property
    def archive(self) -> Archive | None:
        """The file to fetch."""
        return None if self.url is None or self.checksum is None else Archive(url=self.url, checksum=self.checksum)

    @model_validator(mode="after")
    def _file_is_whole(self) -> Weights:
        if (self.url is None) != (self.checksum is None):
            raise ValueError("url and checksum: expected both or neither")
        return self


class Views(Settings):
    """More looks at each image of the train split, for captioners to learn from: `count` random windows of it, with
    `flip` mirrored by chance."""

    count: PositiveInt
    crop: ResizedCrop
    seed: NaturalInt
    flip: bool = False


class Features(Settings):
    """A cell of `extract_features`: a caption dataset seen through an encoder.

    `encoder` is `weights/<name>`, a published network, `classifiers/<name>`, the backbone of a trained classifier of
    ours, or `finetuned/<name>`, either after learning on with a captioner. Pooled features are always kept; `grid_size`
    G also keeps a grid of G x G places. `num_components` projects both on that many principal components, fitted on the
    train split's images alone. `views` adds further rows.
    """

    dataset: CellName
    encoder: FeatureEncoder
    image_size: Annotated[int, Field(ge=32)]
    resize_size: Annotated[int, Field(ge=32)]
    batch_size: PositiveInt
    num_workers: NaturalInt
    grid_size: PositiveInt | None = None
    num_components: PositiveInt | None = None
    views: Views | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Features:
        if self.resize_size < self.image_size:
            raise ValueError(f"resize_size {self.resize_size} is smaller than the crop, image_size {self.image_size}")
        return self
