"""Settings of what is fetched and prepared: sources, datasets, vocabularies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from seesay.params.reading import AsTuple, CellName, Fraction, NaturalInt, PositiveInt, Settings


class Archive(Settings):
    """One file to fetch: its official URL and what its bytes must hash to.

    `checksum` is `md5:<32 hex>`, `sha256:<64 hex>` or `sha256-prefix:<8 or more hex>` (torchvision's file names carry
    the first eight digits).
    """

    url: Annotated[str, Field(pattern=r"^(https?|s3|file)://.+[^/]$")]
    checksum: Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|sha256-prefix:[0-9a-f]{8,63})$")]

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
    """COCO 2017 captions; `num_images` null takes the image archives, a number fetches that many images one by one."""

    kind: Literal["coco"]
    annotations: Archive
    image_archives: Archives
    num_images: PositiveInt | None
    num_images_seed: NaturalInt
    num_workers: PositiveInt


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
    """How unclean a source may be before the stage fails and names the files."""

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

    `val_fraction` cuts val from train where a source has no val of its own (COCO). `karpathy_split` takes the splits
    from a file instead, in the format of Karpathy's dataset_coco.json; absent, they are the source's own.
    """

    val_fraction: Fraction | None
    split_seed: NaturalInt
    limits: CaptionLimits
    karpathy_split: LocalFile | None = None

    @model_validator(mode="after")
    def _splits_come_from_one_place(self) -> CaptionDataset:
        if self.karpathy_split is not None and self.val_fraction is not None:
            raise ValueError(
                f"val_fraction: got {self.val_fraction}: expected null with karpathy_split, which has a val"
            )
        return self

    @field_validator("val_fraction")
    @classmethod
    def _leaves_both_splits(cls, value: float | None) -> float | None:
        if value is not None and not 0.0 < value < 0.5:
            raise ValueError(f"got {value}: expected more than 0 and less than 0.5, or null")
        return value


class Vocabulary(Settings):
    """A cell of `build_vocabulary`: words seen at least `min_count` times in the dataset's training captions, or in
    those of two datasets together where `also_dataset` is not `none`."""

    dataset: CellName
    also_dataset: CellName
    min_count: PositiveInt

    @model_validator(mode="after")
    def _datasets_are_two(self) -> Vocabulary:
        if self.also_dataset == self.dataset:
            raise ValueError(f"also_dataset: got {self.also_dataset}: expected another dataset than dataset, or none")
        return self


class Encoder(Settings):
    """A torchvision classification network whose features describe an image, and its pretrained weights.

    `weights` null goes with `small_cnn` only, our own network of fixed filters that was never trained.
    """

    architecture: str
    weights: Archive | None


class Features(Settings):
    """A cell of `extract_features`: a caption dataset seen through an encoder.

    The encoder is an entry of `encoders`, the backbone of a trained classifier of ours, or an entry of
    `finetuned_encoders`, the other two being `none`. `network` is the encoder's architecture, `classifier` where it is
    one of ours, `finetuned` where it is a fine-tuned one. Pooled features are always kept; `grid_size` G also keeps a
    grid of G x G places. `num_components` projects both on that many principal components, fitted on the train split's
    images alone.
    """

    dataset: CellName
    encoder: CellName
    classifier: CellName
    finetuned: CellName
    network: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=32)]
    resize_size: Annotated[int, Field(ge=32)]
    grid_size: PositiveInt | None
    num_components: PositiveInt | None
    batch_size: PositiveInt
    num_workers: NaturalInt

    @model_validator(mode="after")
    def _parts_fit(self) -> Features:
        if self.resize_size < self.image_size:
            raise ValueError(f"resize_size {self.resize_size} is smaller than the crop, image_size {self.image_size}")
        named = (self.encoder, self.classifier, self.finetuned)
        if named.count("none") != 2:
            raise ValueError(f"encoder, classifier and finetuned: got {', '.join(named)}: expected one of them")
        for kind, cell in (("classifier", self.classifier), ("finetuned", self.finetuned)):
            if (cell == "none") == (self.network == kind):
                raise ValueError(f"network: got {self.network}: expected {kind} with a cell in {kind}, only there")
        return self
