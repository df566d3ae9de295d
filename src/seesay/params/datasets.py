"""Settings for sources, datasets, vocabularies, weights and features."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from seesay.core.settings import AsTuple, CellName, Fraction, NaturalInt, OneOrTwo, PositiveInt, Settings
from seesay.params.training import FeatureEncoder, ResizedCrop


def _is_a_url(value: str) -> str:
    try:
        parts = urlsplit(value)
    except ValueError as error:
        raise ValueError(f"got {value!r}: {error}") from None
    if "@" in parts.netloc:
        raise ValueError(
            f"got {value!r} with a user name: expected none, because DVC copies parameters into dvc.lock; "
            "put user names and passwords into ~/.netrc"
        )
    return value


Url = Annotated[str, Field(pattern=r"^(https?|s3|file)://.+[^/]$"), AfterValidator(_is_a_url)]
Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|sha256-prefix:[0-9a-f]{8,63})$")]


class Archive(Settings):
    """A file to download: its official URL and its checksum.

    `checksum` is `md5:<32 hex>`, `sha256:<64 hex>` or `sha256-prefix:<8 or more hex>`. The prefix form suits
    torchvision and timm, whose file names contain the first eight digits.
    """

    url: Url
    checksum: Checksum

    @property
    def name(self) -> str:
        """The file's name: the last part of the URL's path, or a name with a suffix in its query (`?file=x.zip`)."""
        parts = urlsplit(self.url)
        names = [parts.path, *(value for _, value in parse_qsl(parts.query))]
        bare = [PurePosixPath(unquote(name)).name for name in names]
        return next((name for name in bare if "." in name.strip(".")), bare[0] or "download")


Archives = Annotated[tuple[Archive, ...], AsTuple, Field(min_length=1)]


class TinyImageNetSource(Settings):
    kind: Literal["tiny_imagenet"]
    archives: Archives


class ScenesImageSource(Settings):
    """Generated, labelled 64x64 drawings in Tiny ImageNet's layout."""

    kind: Literal["scenes"]
    seed: NaturalInt
    num_train_per_class: PositiveInt
    num_val_per_class: PositiveInt


LocalPath = Annotated[str, Field(min_length=1)]
"""The path of user-supplied files: absolute, or relative to the workspace's root."""

Sha256 = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class LocalFile(Settings):
    """A user-supplied file and its checksum: `sha256:` followed by the output of `sha256sum`.

    DVC tracks this entry, not the file. If the file changes, the stage rejects it until `checksum` is updated.
    """

    path: LocalPath
    checksum: Sha256


class LocalImages(Settings):
    """A zip archive of images, or a folder of images, which is packed into an archive.

    `checksum` is that of the archive; for a folder, that of the packed archive. If it is absent, the images are not
    checked. A change of the images alone then needs `dvc repro -f` with the stage that fetches them.
    """

    path: LocalPath
    checksum: Sha256 | None = None


class ImageFolderSource(Settings):
    """User-supplied labelled images: a folder or a zip archive, `path`; `checksum` is as in `LocalImages`.

    A label is the name of the folder that an image lies in, possibly below folders for train, val and test. Instead,
    `labels` may be a CSV with the columns `file` and `label`, and optionally `split` and `group`. Images of one group
    stay in one split. Tiny ImageNet is recognised by its wnids.txt.
    """

    kind: Literal["image_folder"]
    path: LocalPath
    checksum: Sha256 | None = None
    labels: LocalFile | None = None


ImageSource = Annotated[TinyImageNetSource | ScenesImageSource | ImageFolderSource, Field(discriminator="kind")]


class CocoSource(Settings):
    """COCO 2017 captions, with the archives of all images.

    With `num_images`, only that many images are downloaded, one by one instead of in archives. They are chosen with
    `num_images_seed`, and `num_workers` of them are downloaded at a time.
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
    """Generated scenes with five captions each, in COCO's layout."""

    kind: Literal["scenes"]
    seed: NaturalInt
    num_train: PositiveInt
    num_val: PositiveInt


class CocoFilesSplit(Settings):
    """Captions in COCO's format. Each `file_name` in them is a path inside `images`."""

    annotations: LocalFile
    images: LocalImages


class CocoFilesSource(Settings):
    """User-supplied captions and images in COCO's format. Without `val`, the val split is taken from train."""

    kind: Literal["coco_files"]
    train: CocoFilesSplit
    val: CocoFilesSplit | None = None
    test: CocoFilesSplit | None = None

    @property
    def splits(self) -> dict[str, CocoFilesSplit]:
        """The available splits by name, train first."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


CaptionSource = Annotated[
    CocoSource | Flickr8kSource | CocoFilesSource | ScenesCaptionSource, Field(discriminator="kind")
]


class ImageLimits(Settings):
    """The largest numbers of bad or omitted files in a source. Beyond them the stage fails and names the files."""

    max_undecodable: NaturalInt
    max_left_out_per_class: NaturalInt


class SplitShares(Settings):
    """The shares of each class's images that become val and test; the rest is train."""

    val: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    test: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None

    @model_validator(mode="after")
    def _leaves_train(self) -> SplitShares:
        if self.val is None and self.test is None:
            raise ValueError("expected val or test, or no splits where the source has both")
        if (self.val or 0.0) + (self.test or 0.0) >= 1.0:
            raise ValueError(f"got val {self.val} and test {self.test}: expected less than 1 together")
        return self


class ImageDataset(Settings):
    """An experiment of the stage `prepare_images`: an image source, split into train, val and test.

    Of a source in Tiny ImageNet's layout it is a class subset. Test is then the official val split;
    `num_val_per_class` and `num_train_per_class` images of each class are drawn from the official train split.

    Without `subset` it is all of a source of kind `image_folder`. `splits` names the splits that the source lacks.
    """

    source: CellName
    subset: str | None = None
    image_size: PositiveInt
    num_train_per_class: PositiveInt | None = None
    num_val_per_class: PositiveInt | None = None
    splits: SplitShares | None = None
    split_seed: NaturalInt | None = None
    limits: ImageLimits

    @model_validator(mode="after")
    def _splits_are_of_one_kind(self) -> ImageDataset:
        of_subset = ("num_train_per_class", "num_val_per_class")
        if self.subset is None:
            wrong = [key for key in of_subset if getattr(self, key) is not None]
            wrong += ["split_seed"] if self.split_seed is not None and self.splits is None else []
            missing = ["split_seed"] if self.splits is not None and self.split_seed is None else []
        else:
            wrong = ["splits"] if self.splits is not None else []
            missing = [key for key in (*of_subset, "split_seed") if getattr(self, key) is None]
        beside = f"{'without' if self.subset is None else 'with'} subset"
        if wrong:
            raise ValueError(f"{wrong[0]}: expected none {beside}{' and splits' if wrong[0] == 'split_seed' else ''}")
        if missing:
            raise ValueError(f"{missing[0]}: missing: expected {'with splits' if self.subset is None else beside}")
        return self


class CaptionLimits(Settings):
    max_undecodable: NaturalInt
    max_missing_images: NaturalInt
    max_empty_captions: NaturalInt


class CaptionDataset(Settings):
    """An experiment of the stage `prepare_captions`: the caption source of the same name, split by image.

    If a source has no val split (COCO), `val_fraction` of train becomes val, after shuffling with `split_seed`. With
    `karpathy_split`, the splits are read from a file instead, in the format of Karpathy's dataset_coco.json. Without
    it, they are the source's splits.
    """

    limits: CaptionLimits
    val_fraction: Fraction | None = None
    split_seed: NaturalInt | None = None
    karpathy_split: LocalFile | None = None

    @model_validator(mode="after")
    def _splits_come_from_one_place(self) -> CaptionDataset:
        if self.karpathy_split is not None and self.val_fraction is not None:
            raise ValueError(
                f"val_fraction: got {self.val_fraction}: expected none with karpathy_split, which has a val split"
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
    """An experiment of the stage `build_vocabulary`.

    The words are those that occur at least `min_count` times in the training captions of `datasets`, which are one
    dataset or two taken together.
    """

    datasets: OneOrTwo
    min_count: PositiveInt

    @model_validator(mode="after")
    def _datasets_differ(self) -> Vocabulary:
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets: got {', '.join(self.datasets)}: expected two different ones")
        return self


class Weights(Settings):
    """A published network, a model of timm by name, and the source of its weights.

    The file is a state dict: `.safetensors`, or what `torch.save` wrote. Only `small_cnn` has no `url` and `checksum`:
    it is this project's network of fixed filters and was never trained.
    """

    architecture: str
    url: Url | None = None
    checksum: Checksum | None = None

    @property
    def archive(self) -> Archive | None:
        """The file to download; None without `url` and `checksum`."""
        return None if self.url is None or self.checksum is None else Archive(url=self.url, checksum=self.checksum)

    @model_validator(mode="after")
    def _file_is_whole(self) -> Weights:
        if (self.url is None) != (self.checksum is None):
            raise ValueError("url and checksum: expected both or neither")
        return self


class Views(Settings):
    """Additional views of each train image for captioners to learn from.

    They are `count` random crops of the image. With `flip`, they are also mirrored at random.
    """

    count: PositiveInt
    crop: ResizedCrop
    seed: NaturalInt
    flip: bool = False


class Features(Settings):
    """An experiment of the stage `extract_features`: the features that an encoder computes for a caption dataset.

    `encoder` is one of three: `weights/<name>`, a published network; `classifiers/<name>`, the backbone of one of this
    project's trained classifiers; `finetuned/<name>`, either of these after fine-tuning with a captioner. Pooled
    features are always kept. A `grid_size` of G also keeps features on a grid of G x G positions. `num_components`
    projects both onto that many principal components, fitted on the train split's images only. `views` adds further
    rows.
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
