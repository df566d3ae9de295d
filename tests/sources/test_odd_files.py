"""Files as they occur elsewhere: re-packed, encoded otherwise, or damaged. Each is read, or refused in one line."""

import hashlib
import io
import json
import random
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.captioning.data.own_captions import dataset_settings, own_source
from tests.fixtures.mutating import BOM, encrypted, mutate, mutate_json

from seesay.arrays import Undecodable, decode_rgb
from seesay.captioning.data.karpathy import read_karpathy_split
from seesay.captioning.data.prepare import prepare_captions
from seesay.captioning.data.records import read_caption_records
from seesay.captioning.data.vocabulary import read_vocabulary
from seesay.core.errors import InputError, redact, shorten
from seesay.core.files import parse_json, read_json, read_text
from seesay.core.settings import read_yaml
from seesay.images.packed import read_packed_images, write_packed_images
from seesay.images.prepare import prepare_images
from seesay.params.datasets import Archive, ImageDataset, ImageLimits, LocalFile
from seesay.sources.archives import open_mirror, parse_sums
from seesay.sources.coco_images import read_offered
from seesay.sources.fetch import fetch_caption_source
from seesay.sources.http import Transient, exists
from seesay.sources.local import read_layout
from seesay.sources.members import ZipMembers, is_image_name, list_raw_files
from seesay.sources.provenance import SourceNote, read_source, write_source


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode_rgb(content).image)


RAMP = np.linspace(0, 65535, 64 * 48).reshape(48, 64)


@pytest.mark.parametrize(
    ("values", "kind"),
    [(RAMP.astype(np.uint16), "PNG"), (RAMP.astype(np.int32), "TIFF"), ((RAMP / 65535).astype(np.float32), "TIFF")],
)
def test_16_bit_whole_and_float_values_are_scaled(values, kind):
    """Until now 16-bit images had a mean of 254.5, since all above 255 was white."""
    assert pixels(saved(Image.fromarray(values), kind)).mean() == pytest.approx(127.5, abs=0.2)


@pytest.mark.parametrize(("suffix", "kind"), [(".avif", "AVIF"), (".jfif", "JPEG"), (".WEBP", "WEBP")])
def test_less_usual_suffixes_are_images_too(suffix, kind):
    assert is_image_name(f"folder/a{suffix}")
    assert abs(pixels(saved(Image.new("RGB", (16, 16), (200, 30, 30)), kind)).astype(int) - [200, 30, 30]).max() < 12


def test_values_outside_every_range_are_undecodable():
    for values in (np.full((2, 2), -1.0), np.full((2, 2), np.nan), np.full((2, 2), 70000.0)):
        with pytest.raises(Undecodable, match="its values are from"):
            decode_rgb(saved(Image.fromarray(values.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_images_are_turned_as_viewers_do(orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)), "JPEG", exif=exif)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(pixels(content), expected)


def test_what_is_transparent_becomes_white_also_in_a_palette():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))
    for content in (saved(clear, "PNG"), saved(clear.quantize(), "PNG"), saved(clear, "WEBP", lossless=True)):
        assert pixels(content)[0, 0].tolist() == [0, 0, 0]
        assert pixels(content)[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_plain_images_keep_the_bytes_that_they_had(mode, make_image):
    content = make_image(3, mode=mode, size=(16, 16))
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(pixels(content), np.asarray(image.convert("RGB")))


def repacked(members: dict[str, bytes], how: str) -> dict[str, bytes]:
    if how == "doubled":
        return {f"tiny/{name}": content for name, content in members.items()}
    if how == "backslashes":
        return {name.replace("/", "\\"): content for name, content in members.items()}
    if how == "bom":
        return {name: BOM + content if name.endswith(".txt") else content for name, content in members.items()}
    if how == "hidden":
        names = ("train/s00000001/images/.DS_Store", "val/images/Thumbs.db", "val/images/._x.JPEG")
        return members | {f"tiny/{name}": b"x" for name in names} | {"__MACOSX/tiny/wnids.txt": b"x"}
    lines = members["tiny/val/val_annotations.txt"].decode().split("\n")
    classes = {line.split("\t")[0]: line.split("\t")[1] for line in lines if line}

    def moved_name(name: str) -> str:
        top, found, file_name = name.partition("val/images/")
        return f"{top}val/{classes[file_name]}/{file_name}" if found else name

    moved = {moved_name(name): content for name, content in members.items()}
    return moved if how == "class folders" else {n: c for n, c in moved.items() if "val_annotations" not in n}


def image_settings() -> ImageDataset:
    limits = ImageLimits(max_undecodable=60, max_left_out_per_class=9)
    return ImageDataset(
        source="tiny", subset="scenes10", image_size=8, split_seed=0, limits=limits, num_train_per_class=3,
        num_val_per_class=1,
    )  # fmt: skip


@pytest.mark.parametrize("how", ["doubled", "backslashes", "bom", "hidden", "class folders", "no annotations"])
def test_common_repacks_of_tiny_imagenet_hold_the_same_images(raw_folder, make_members, make_zip, how, tmp_path):
    expected, _ = prepare_images(
        image_settings(), raw_folder(make_zip(make_members())), name="t", scratch=tmp_path / "scratch"
    )
    found, _ = prepare_images(
        image_settings(), raw_folder(make_zip(repacked(make_members(), how))), name="t", scratch=tmp_path / "scratch"
    )
    for split in ("train", "val", "test"):
        assert np.array_equal(found.splits[split].images, expected.splits[split].images)
        assert np.array_equal(found.splits[split].labels, expected.splits[split].labels)


def test_a_val_folder_that_is_not_the_images_class_is_refused(raw_folder, make_members, make_zip, tmp_path):
    members = repacked(make_members(), "class folders")
    members["tiny/val/s00000001/val_0.JPEG"] = members.pop("tiny/val/s00000000/val_0.JPEG")
    with pytest.raises(InputError, match="its folder is not the class"):
        prepare_images(image_settings(), raw_folder(make_zip(members)), name="t", scratch=tmp_path / "scratch")


def test_an_encrypted_archive_of_a_persons_own_is_refused_at_the_key(tmp_path):
    source = own_source(tmp_path / "home")
    path = tmp_path / "home/v.zip"
    path.write_bytes(encrypted(path.read_bytes()))
    with pytest.raises(InputError, match=r"own\.val\.images\.path: .*v\.zip: 11\.png: encrypted: unpack it"):
        fetch_caption_source(source, tmp_path / "own", mirror=None, scratch=tmp_path / "w", root=tmp_path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_is_read_up_to_a_limit_whatever_size_it_states(tmp_path, compression):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a", bytes(3_000_000))
    with ZipMembers(path) as members, pytest.raises(InputError, match="unpacks to more than the 1,000 bytes"):
        members.read("a", limit=1000)
    content = path.read_bytes().replace(struct.pack("<I", 3_000_000), struct.pack("<I", 10))
    path.write_bytes(content)
    with ZipMembers(path) as members, pytest.raises(InputError, match="damaged"):
        members.read("a", limit=1000)


def test_names_match_after_unicode_normalisation_and_with_backslashes(tmp_path):
    nfc, nfd = "caf\u00e9.png", "cafe\u0301.png"
    with zipfile.ZipFile(tmp_path / "A.ZIP", "w") as archive:
        archive.writestr(f"x\\{nfd}", b"1")
    files = list_raw_files(tmp_path)
    assert files.find(nfc) == files.find(nfd) == ("A.ZIP", f"x/{nfc}")
    assert files.read_text(nfd) == "1"


def write_flickr8k(folder: Path, captions: dict[str, str], picture) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "text.Zip", "w") as archive:
        for name, text in captions.items():
            archive.writestr(name, text)
        for number, name in enumerate("abcd"):
            archive.writestr(f"Images/{name}.jpg", picture(number))
    write_source(folder, SourceNote("toy", ()))
    return folder


LISTS = {
    "Flickr_8k.trainImages.txt": "a.jpg\nd.jpg",
    "Flickr_8k.devImages.txt": "b.jpg",
    "Flickr_8k.testImages.txt": "c.jpg",
}


def test_a_byte_order_mark_costs_flickr8k_no_caption(tmp_path, make_image):
    lines = "".join(f"{name}.jpg#0\tA dog {name} runs .\n" for name in "abcd")
    folder = write_flickr8k(tmp_path / "f", {"Flickr8k.token.txt": f"\ufeff{lines}"} | LISTS, make_image)
    records, _ = prepare_captions(dataset_settings(), folder, name="toy")
    assert [r.captions for r in records.records if r.file_name == "Images/a.jpg"] == [("A dog a runs .",)]


def test_kaggles_captions_are_a_flickr8k_source(tmp_path, make_image):
    text = 'image,caption\r\na.jpg,"A dog , ""Rex"" , runs ."\r\nd.jpg,A cat, asleep .\r\nb.jpg,b .\r\nc.jpg,c .\r\n'
    folder = write_flickr8k(tmp_path / "f", {"captions.txt": text} | LISTS, make_image)
    records, _ = prepare_captions(dataset_settings(), folder, name="toy")
    assert {r.file_name[-5:]: r.captions for r in records.of("train")} == {
        "a.jpg": ('A dog , "Rex" , runs .',),
        "d.jpg": ("A cat, asleep .",),
    }
    folder = write_flickr8k(tmp_path / "f", {"captions.txt": text}, make_image)
    with pytest.raises(InputError, match=r"no image is left for the test split.*captions\.txt comes without splits"):
        prepare_captions(dataset_settings(val_fraction=0.25), folder, name="toy")


def test_json_with_half_a_surrogate_pair_deep_nesting_or_huge_numbers():
    assert parse_json(r'["a dog \ud83d runs", "\ud83d\ude00"]', where="f") == ["a dog \ufffd runs", "\U0001f600"]
    for text, says in (("[" * 100_000, "nested too deeply"), ("9" * 5000, "too many digits"), ("{", "line 1 column 2")):
        with pytest.raises(InputError, match=f"^f: .*{says}"):
            parse_json(text, where="f")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
def test_params_in_another_encoding_are_one_error(tmp_path, encoding):
    (tmp_path / "params.yaml").write_bytes("# caf\u00e9\na: 1\n".encode(encoding))
    with pytest.raises(InputError, match=r"params\.yaml: "):
        read_yaml(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(BOM + b"a: 1e-3\n")
    assert read_yaml(tmp_path / "params.yaml") == {"a": 1e-3}


def test_an_anchor_bomb_is_refused_and_its_value_is_shown_short(tmp_path):
    lines = ["a0: &a0 [1, 2, 3]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "p.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="anchors expand to more than 1,000,000 values"):
        read_yaml(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("a: &a [*a]")
    with pytest.raises(InputError, match="an anchor contains itself"):
        read_yaml(tmp_path / "p.yaml")
    bomb: list[object] = ["lol"]
    for _ in range(40):
        bomb = [bomb] * 10
    assert len(shorten(bomb)) <= 200
    assert shorten(10**5000) == "a number of 16610 bits"


def test_credentials_in_urls_are_neither_shown_nor_stored(file_server, tmp_path):
    secret = "hunter2"
    for url in (f"https://me:{secret}@h/x.zip?sig={secret}#a", f"postgresql://me:a/{secret}@h:5432/db"):
        assert secret not in redact(f"cannot read '{url}': refused")
    assert (
        redact("http://[::1]:5000/a@b http://h/@x/y sqlite:////a/b")
        == "http://[::1]:5000/a@b http://h/@x/y sqlite:////a/b"
    )
    assert secret not in str(InputError(f"Max retries exceeded with url: /x?token={secret}"))
    from seesay.params.datasets import TinyImageNetSource
    from seesay.sources.fetch import fetch_image_source

    content = b"x" * 100
    file_server.files[f"a.zip?token={secret}"] = content
    url = f"{file_server.url}/a.zip?token={secret}"
    archive = Archive(url=url, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    source = TinyImageNetSource(kind="tiny_imagenet", archives=(archive,))
    note = fetch_image_source(source, tmp_path / "raw", mirror=None, scratch=tmp_path / "w")
    assert note.files[0].url == f"{file_server.url}/a.zip"
    file_server.files.clear()
    (tmp_path / "raw/a.zip").unlink()
    with pytest.raises(InputError) as caught:
        fetch_image_source(source, tmp_path / "raw", mirror=None, scratch=tmp_path / "w")
    assert secret not in str(caught.value)
    file_server.files["a.zip"] = content
    file_server.files["SHA256SUMS"] = f"{hashlib.sha256(content).hexdigest()}  a.zip\n".encode()
    mirror = file_server.url.replace("//", f"//me:{secret}@")
    note = fetch_image_source(source, tmp_path / "raw", mirror=mirror, scratch=tmp_path / "w")
    assert secret not in str(note)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes() + p.name.encode()]


def test_archive_names_come_from_the_path_or_the_query():
    names = {
        "https://h/a/T%20x.ZIP?token=1": "T x.ZIP", "https://h/get?file=t.zip": "t.zip",
        "https://h/f/flickr8k": "flickr8k",
        "https://h/a%2F..%2F..%2Fevil.zip": "evil.zip",
    }  # fmt: skip
    for url, name in names.items():
        assert Archive(url=url, checksum="md5:" + "0" * 32).name == name


def test_a_mirror_may_be_percent_encoded(tmp_path):
    folder = tmp_path / "my mirror"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text("")
    for location in (str(folder), folder.as_uri()):
        assert open_mirror(location).lists("x.zip") is False


def test_a_backend_that_fails_for_a_while_is_no_traceback(monkeypatch):
    import fsspec

    from seesay.sources import coco_images, http

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("slow")

    monkeypatch.setattr(http, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    monkeypatch.setattr(fsspec, "open", fail)
    for call in (
        lambda: exists("s3://b/x"),
        lambda: http.retried("s3://b/x", lambda: coco_images._open_archive("s3://b/x")),
    ):
        with pytest.raises(InputError, match=r"s3://b/x: slow \(4 attempts\)"):
            call()
    assert not issubclass(Transient, InputError)


def test_500_mutated_files_are_read_or_refused_in_one_error(
    tmp_path, raw_folder, make_members, make_zip, make_image, recwarn
):
    """Readers of sources and prepared data: each mutation ends in success or `InputError`, nothing else."""
    tiny = raw_folder(make_zip(make_members()))
    packed, _ = prepare_images(image_settings(), tiny, name="t", scratch=tmp_path / "scratch")
    write_packed_images(tmp_path / "packed", packed)
    own = tmp_path / "own"
    fetch_caption_source(own_source(tmp_path / "home"), own, mirror=None, scratch=tmp_path / "w", root=tmp_path)
    captions = {"captions.txt": "image,caption\na.jpg,a\nb.jpg,b\nc.jpg,c\nd.jpg,d\n"} | LISTS
    flickr = write_flickr8k(tmp_path / "f", captions, make_image)
    from seesay.captioning.data.records import write_caption_records
    from seesay.captioning.data.vocabulary import build_vocabulary, write_vocabulary

    records = prepare_captions(dataset_settings(), own, name="own")[0]
    write_caption_records(tmp_path / "records", records)
    write_vocabulary(tmp_path / "vocabulary.json", build_vocabulary(records, min_count=1))
    (tmp_path / "params.yaml").write_text("a: &x {b: [1, 2e-3]}\nc: *x\nd: 'text'\n")
    karpathy = tmp_path / "karpathy.json"
    karpathy.write_text(json.dumps({"images": [{"filename": "1.png", "split": "train", "cocoid": 1}]}))
    entries = json.dumps({"images": [{"id": 1, "file_name": "1.jpg", "coco_url": "http://h/1.jpg"}], "annotations": []})
    offered = tmp_path / "annotations.zip"
    offered.write_bytes(make_zip({f"annotations/captions_{s}2017.json": entries.encode() for s in ("train", "val")}))

    def read_tiny() -> None:
        raw_folder((tiny / "tiny.zip").read_bytes())
        prepare_images(image_settings(), tiny, name="t", scratch=tmp_path / "scratch")

    def read_karpathy() -> None:
        file = LocalFile(path=str(karpathy), checksum=f"sha256:{hashlib.sha256(karpathy.read_bytes()).hexdigest()}")
        read_karpathy_split(file, key="k", root=tmp_path)

    def read_own() -> None:
        read_layout(own)
        prepare_captions(dataset_settings(missing=9), own, name="own")

    def read_sums() -> None:
        parse_sums((tmp_path / "params.yaml").read_bytes(), where="s")

    readers = [
        (tiny / "tiny.zip", read_tiny),
        (tiny / "source.json", lambda: read_source(tiny)),
        *((path, lambda: read_packed_images(tmp_path / "packed")) for path in sorted((tmp_path / "packed").iterdir())),
        *((path, read_own) for path in sorted(own.iterdir())),
        (flickr / "text.Zip", lambda: prepare_captions(dataset_settings(), flickr, name="f")),
        *((path, lambda: read_caption_records(tmp_path / "records")) for path in (tmp_path / "records").iterdir()),
        (tmp_path / "vocabulary.json", lambda: read_vocabulary(tmp_path / "vocabulary.json")),
        (tmp_path / "params.yaml", lambda: read_yaml(tmp_path / "params.yaml")),
        (tmp_path / "params.yaml", read_sums),
        (karpathy, read_karpathy),
        (offered, lambda: read_offered(offered)),
    ]
    rng, outcomes = random.Random(0), []
    for number in range(500):
        path, read = readers[number % len(readers)]
        original = path.read_bytes()
        is_json = path.suffix == ".json" and number % 2
        path.write_bytes(mutate_json(original, rng) if is_json else mutate(original, rng))
        try:
            read()
            outcomes.append("read")
        except InputError:
            outcomes.append("refused")
        except Exception as error:
            raise AssertionError(f"mutation {number} of {path.name}") from error
        finally:
            path.write_bytes(original)
    assert outcomes.count("refused") > 200
    assert outcomes.count("read") > 20


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_500_mutated_images_are_decoded_or_undecodable(make_image):
    rng = random.Random(1)
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    kinds = [make_image(1), saved(colours, "PNG"), saved(colours, "TIFF"), saved(colours.quantize(), "GIF"),
             saved(colours, "BMP"), saved(colours, "WEBP"), saved(colours, "PPM"),
             saved(Image.fromarray(RAMP.astype(np.uint16)), "PNG")]  # fmt: skip
    reasons = []
    for number in range(500):
        try:
            assert decode_rgb(mutate(kinds[number % len(kinds)], rng)).image.mode == "RGB"
        except Undecodable as error:
            reasons.append(str(error))
    assert len(reasons) > 100
    assert not any("\n" in reason for reason in reasons)


def test_a_file_that_is_a_folder_is_one_error(tmp_path):
    for read in (read_text, read_json, read_yaml):
        with pytest.raises(InputError, match="expected a file, got a folder"):
            read(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_text(tmp_path)


@pytest.mark.parametrize("value", [f"https://me:{'s3cret' * 40}@host/path", f"https://host/path?key={'s3cret' * 40}"])
def test_a_long_url_is_shown_without_its_credentials(value):
    """Cut in the middle first, it would not look like a URL with credentials any more."""
    assert "s3cret" not in shorten(value) + shorten({"url": value}) + shorten([value])
