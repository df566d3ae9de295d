"""Fetching archives: which copy is taken, what is checked, and what is left behind when it fails."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seesay.core.errors import InputError
from seesay.params.datasets import Archive, Flickr8kSource, TinyImageNetSource, Weights
from seesay.sources import http as downloads
from seesay.sources.archives import parse_sums
from seesay.sources.fetch import fetch_caption_source, fetch_image_source, fetch_weights, mirror_from_environment
from seesay.sources.http import Unreachable
from seesay.sources.provenance import read_architecture, read_source

NAME = "tiny-imagenet-200.zip"
OFFICIAL = bytes(range(256)) * 1200  # 307,200 bytes: several chunks
OTHER = OFFICIAL[::-1]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source_at(url: str, content: bytes = OFFICIAL) -> TinyImageNetSource:
    checksum = f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
    return TinyImageNetSource(kind="tiny_imagenet", archives=(Archive(url=f"{url}/{NAME}", checksum=checksum),))


def fetch(source: TinyImageNetSource, root: Path, mirror: str | Path | None = None) -> Any:
    located = None if mirror is None else str(mirror)
    return fetch_image_source(source, root / "raw/tiny", mirror=located, scratch=root / ".work")


def files_in(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "raw/tiny").glob("*"))


def test_an_official_file_lands_with_a_note_and_leaves_no_partial_download(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    note = fetch(source_at(file_server.url), tmp_path)
    assert (tmp_path / "raw/tiny" / NAME).read_bytes() == OFFICIAL
    assert note == read_source(tmp_path / "raw/tiny")
    assert (note.name, note.substitutes, note.files[0].sha256) == ("tiny", (), sha256(OFFICIAL))
    assert list((tmp_path / ".work/downloads").glob("*.part")) == []


def test_a_right_file_is_not_fetched_again_and_a_wrong_one_is(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    source = source_at(file_server.url)
    fetch(source, tmp_path)
    fetch(source, tmp_path)
    assert len(file_server.requests) == 1
    (tmp_path / "raw/tiny" / NAME).write_bytes(OFFICIAL[:-1])
    fetch(source, tmp_path)
    assert len(file_server.requests) == 2
    assert (tmp_path / "raw/tiny" / NAME).read_bytes() == OFFICIAL


def test_an_interrupted_download_goes_on_where_it_stopped(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    file_server.cut_after[NAME] = [140_000] * downloads.MAX_FAILURES
    fetch(source_at(file_server.url), tmp_path)
    asked = [range_header for _, range_header in file_server.requests]
    assert asked == ["", "bytes=131072-", "bytes=262144-"]  # whole chunks of 65,536 bytes are kept
    assert (tmp_path / "raw/tiny" / NAME).read_bytes() == OFFICIAL


def test_a_later_call_goes_on_where_a_failed_one_stopped(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    file_server.cut_after[NAME] = [100_000, 0, 0, 0, 0]
    with pytest.raises(Unreachable, match=r"ended after 65536 of 307200 bytes|IncompleteRead"):
        fetch(source_at(file_server.url), tmp_path)
    assert files_in(tmp_path) == []
    file_server.cut_after.clear()
    fetch(source_at(file_server.url), tmp_path)
    assert file_server.requests[-1] == (NAME, "bytes=65536-")


def test_a_file_that_changed_meanwhile_is_fetched_whole(file_server, tmp_path):
    file_server.files[NAME] = OTHER
    file_server.cut_after[NAME] = [100_000, 0, 0, 0, 0]
    with pytest.raises(Unreachable):
        fetch(source_at(file_server.url), tmp_path)
    file_server.cut_after.clear()
    file_server.files[NAME] = OFFICIAL
    fetch(source_at(file_server.url), tmp_path)
    assert (tmp_path / "raw/tiny" / NAME).read_bytes() == OFFICIAL


def test_a_checksum_notices_a_changed_file_on_a_server_without_versions(file_server, tmp_path, monkeypatch):
    part = tmp_path / ".work/downloads" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(OTHER[:65536])
    downloads.write_json(
        downloads._state_path(part),
        {"url": f"{file_server.url}/{NAME}", "validator": None, "total": len(OFFICIAL)},
    )
    file_server.files[NAME] = OFFICIAL
    fetch(source_at(file_server.url), tmp_path)
    assert [asked for _, asked in file_server.requests] == ["bytes=65536-", ""]
    assert (tmp_path / "raw/tiny" / NAME).read_bytes() == OFFICIAL


def test_a_server_without_ranges_is_asked_for_the_whole_again(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    file_server.has_ranges = False
    file_server.cut_after[NAME] = [140_000]
    fetch(source_at(file_server.url), tmp_path)
    assert (tmp_path / "raw/tiny" / NAME).read_bytes() == OFFICIAL


def test_passing_server_errors_are_tried_again_and_lasting_ones_are_not(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    file_server.statuses[NAME] = [503, 429]
    fetch(source_at(file_server.url), tmp_path)
    assert len(file_server.requests) == 3
    (tmp_path / "raw/tiny" / NAME).unlink()
    file_server.requests.clear()
    file_server.statuses[NAME] = [403]
    with pytest.raises(Unreachable, match=f"cannot fetch {NAME}: .*{file_server.url}/{NAME}: answered 403.*MIRROR="):
        fetch(source_at(file_server.url), tmp_path)
    assert len(file_server.requests) == 1


def test_a_wrong_checksum_names_url_and_both_checksums_and_leaves_nothing(file_server, tmp_path):
    file_server.files[NAME] = OTHER
    with pytest.raises(InputError, match=rf"{NAME}: got 307,200 bytes with sha256 {sha256(OTHER)}.*says md5:"):
        fetch(source_at(file_server.url), tmp_path)
    assert files_in(tmp_path) == []
    assert list((tmp_path / ".work/downloads").glob("*.part")) == []


def test_a_download_of_unknown_length_cut_short_fails_its_checksum(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    file_server.has_lengths = False
    file_server.cut_after[NAME] = [1000]
    with pytest.raises(InputError, match=r"got 1,000 bytes .* cut short"):
        fetch(source_at(file_server.url), tmp_path)
    assert files_in(tmp_path) == []


def test_a_mirror_comes_first_and_its_other_file_is_noted_as_substitute(file_server, mirror_folder, tmp_path, capsys):
    file_server.files[NAME] = OFFICIAL
    note = fetch(source_at(file_server.url), tmp_path, mirror_folder({NAME: OTHER}))
    assert file_server.requests == []
    assert note.substitutes == (NAME,)
    assert (note.files[0].url, note.files[0].sha256) == (f"{file_server.url}/{NAME}", sha256(OTHER))
    assert str(tmp_path) not in (tmp_path / "raw/tiny/source.json").read_text()
    warning = capsys.readouterr().err
    assert warning.startswith(f"seesay: warning: {NAME} is a substitute")
    assert warning.count("\n") == 1


def test_a_mirror_of_the_official_bytes_gives_no_substitute(file_server, mirror_folder, tmp_path):
    assert fetch(source_at(file_server.url), tmp_path, mirror_folder({NAME: OFFICIAL})).substitutes == ()


def test_a_mirror_may_be_a_web_server(file_server, tmp_path):
    file_server.files |= {NAME: OTHER, "SHA256SUMS": f"{sha256(OTHER)} *{NAME}\n".encode()}
    assert fetch(source_at("http://127.0.0.1:9"), tmp_path, file_server.url).substitutes == (NAME,)


def test_a_substitute_is_kept_and_still_named_without_the_mirror(file_server, mirror_folder, tmp_path):
    source = source_at(file_server.url)
    fetch(source, tmp_path, mirror_folder({NAME: OTHER}))
    assert fetch(source, tmp_path).substitutes == (NAME,)
    assert file_server.requests == []


def test_a_mirrored_file_that_is_not_what_the_mirror_says_is_refused(file_server, mirror_folder, tmp_path):
    folder = mirror_folder({NAME: OTHER})
    (folder / NAME).write_bytes(OTHER[:1000])
    with pytest.raises(InputError, match=rf"mirror/{NAME}: got 1,000 bytes.*SHA256SUMS says sha256:{sha256(OTHER)}"):
        fetch(source_at(file_server.url), tmp_path, folder)
    assert files_in(tmp_path) == []


def test_what_the_mirror_lacks_comes_from_the_official_url(file_server, mirror_folder, tmp_path):
    file_server.files[NAME] = OFFICIAL
    assert fetch(source_at(file_server.url), tmp_path, mirror_folder({"other.zip": b"1"})).substitutes == ()


@pytest.mark.parametrize("is_listed", [False, True])
def test_what_neither_mirror_nor_url_has_ends_in_one_error(file_server, mirror_folder, tmp_path, is_listed):
    """The error names the file, the mirror and the URL."""
    folder = mirror_folder({NAME: OTHER} if is_listed else {"other.zip": b"1"})
    (folder / NAME).unlink(missing_ok=True)
    with pytest.raises(Unreachable) as caught:
        fetch(source_at(file_server.url), tmp_path, folder)
    message = str(caught.value)
    assert message.startswith(f"cannot fetch {NAME}: the mirror {folder} ")
    assert f"{file_server.url}/{NAME}: answered 404" in message
    assert "\n" not in message
    assert files_in(tmp_path) == []


def test_a_mirrored_file_without_a_sum_is_refused(file_server, mirror_folder, tmp_path):
    folder = mirror_folder({"other.zip": b"1"})
    (folder / NAME).write_bytes(OTHER)
    with pytest.raises(InputError, match=f"{NAME} exists, but SHA256SUMS does not list it"):
        fetch(source_at(file_server.url), tmp_path, folder)


def test_a_mirror_without_sums_or_that_is_not_there_is_refused(file_server, tmp_path):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(InputError, match=r"MIRROR=.*mirror: cannot read its SHA256SUMS"):
        fetch(source_at(file_server.url), tmp_path, tmp_path / "mirror")
    with pytest.raises(InputError, match=r"MIRROR=.*nowhere: no such folder"):
        fetch(source_at(file_server.url), tmp_path, tmp_path / "nowhere")


def test_a_corrupt_sums_file_is_refused_by_line():
    with pytest.raises(InputError, match=r"m/SHA256SUMS: line 2: got 'abc  x.zip'"):
        parse_sums(f"{'0' * 64}  a.zip\nabc  x.zip\n".encode(), where="m/SHA256SUMS")
    assert parse_sums(f"# made by hand\n\n{'A' * 64} *./a b.zip\r\n".encode(), where="") == {"a b.zip": "a" * 64}


def test_the_mirror_is_named_by_the_environment(monkeypatch):
    monkeypatch.setenv("MIRROR", "../data")
    assert mirror_from_environment() == "../data"
    monkeypatch.setenv("MIRROR", "")
    assert mirror_from_environment() is None


def test_weights_are_checked_by_the_prefix_in_their_name(file_server, tmp_path):
    file_server.files["net.pth"] = OFFICIAL
    checksum = f"sha256-prefix:{sha256(OFFICIAL)[:8]}"
    weights = Weights(architecture="net", url=f"{file_server.url}/net.pth", checksum=checksum)
    assert fetch_weights(weights, tmp_path / "net", mirror=None, scratch=tmp_path / ".work").substitutes == ()
    assert read_architecture(tmp_path / "net") == "net"


def test_an_encoder_without_weights_needs_no_network(tmp_path):
    note = fetch_weights(Weights(architecture="small"), tmp_path / "n", mirror=None, scratch=tmp_path)
    assert note == read_source(tmp_path / "n")
    assert note.files == ()
    assert read_architecture(tmp_path / "n") == "small"


def test_weights_that_do_not_say_whose_they_are_are_refused(tmp_path):
    (tmp_path / "encoder.json").write_text("{}")
    with pytest.raises(InputError, match=r"encoder\.json: expected the key architecture; fetch the weights again"):
        read_architecture(tmp_path)


def test_both_archives_of_flickr8k_are_fetched(file_server, tmp_path):
    """The archives of an earlier choice are removed."""
    archives = {}
    for name in ("text.zip", "images.zip"):
        file_server.files[name] = name.encode()
        archives[name] = Archive(url=f"{file_server.url}/{name}", checksum=f"sha256:{sha256(name.encode())}")
    source = Flickr8kSource(kind="flickr8k", text=archives["text.zip"], images=archives["images.zip"])
    (tmp_path / "f").mkdir()
    (tmp_path / "f/old.zip").write_bytes(b"")
    fetch_caption_source(source, tmp_path / "f", mirror=None, scratch=tmp_path / ".work")
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["images.zip", "source.json", "text.zip"]


def test_a_disk_that_fills_up_leaves_nothing_under_the_final_name(file_server, tmp_path, monkeypatch):
    """The error names the file."""
    file_server.files[NAME] = OFFICIAL
    real_open = Path.open

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = real_open(self, mode, *arguments, **options)
        if self.suffix != ".part" or "a" not in mode:
            return file

        class Full:
            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, _: bytes) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match=rf"No space left on device: '.*{NAME}.part'") as caught:
        fetch(source_at(file_server.url), tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("has_lengths", [True, False])
def test_a_full_disk_is_one_error_and_no_file(file_server, small_disk, has_lengths):
    file_server.files[NAME] = OFFICIAL
    file_server.has_lengths = has_lengths  # told the size, we do not even begin
    with pytest.raises(OSError, match=rf"No space left on device.*{NAME}.part") as caught:
        fetch(source_at(file_server.url), small_disk)
    assert caught.value.errno == errno.ENOSPC
    assert files_in(small_disk) == []


def test_a_full_disk_elsewhere_than_the_downloads_leaves_no_file(file_server, small_disk, tmp_path):
    file_server.files[NAME] = OFFICIAL
    with pytest.raises(OSError, match="No space left on device"):
        fetch_image_source(source_at(file_server.url), small_disk / "raw", mirror=None, scratch=tmp_path / ".work")
    assert list((small_disk / "raw").iterdir()) == []


def test_an_output_that_cannot_be_written_is_named(file_server, tmp_path):
    file_server.files[NAME] = OFFICIAL
    (tmp_path / "raw").write_text("a file where a folder should be")
    with pytest.raises(OSError, match="raw"):
        fetch(source_at(file_server.url), tmp_path)


@pytest.mark.parametrize("module", ["sources.fetch", "images.prepare", "images.packed"])
def test_what_fetches_and_prepares_needs_no_torch(module):
    code = f"import sys, seesay.{module}; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_progress_is_silent_where_stderr_is_no_terminal(file_server, tmp_path, capsys):
    file_server.files[NAME] = OFFICIAL
    fetch(source_at(file_server.url), tmp_path)
    assert capsys.readouterr().err == ""
