"""A web server that misbehaves on request, and hand-made archives in Tiny ImageNet's layout."""

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seesay.sources import http as downloads
from seesay.sources.provenance import SourceFile, SourceNote, write_source


@dataclass
class FileServer:
    """Serves `files` by name. `cut_after[name]` : each answer takes one entry, after which it breaks."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    has_ranges: bool = True
    has_lengths: bool = True
    cut_after: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    statuses: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    requests: list[tuple[str, str]] = field(default_factory=list)  # (name, Range header or "")


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path[1:] in server.files else 404)
            self.end_headers()

        def do_GET(self) -> None:
            name, asked = self.path[1:], self.headers.get("Range", "")
            server.requests.append((name, asked))
            content = server.files.get(name)
            status = server.statuses[name].pop(0) if server.statuses[name] else 200 if content is not None else 404
            if status != 200 or content is None:
                self.send_error(status)
                return
            etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.has_ranges else 0
            if self.headers.get("If-Range", etag) != etag:
                start = 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if server.has_ranges:
                self.send_header("ETag", etag)
            if server.has_lengths:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if server.cut_after[name]:
                body = body[: server.cut_after[name].pop(0)]
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.0)
    server = FileServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    http.shutdown()
    http.server_close()


@pytest.fixture
def mirror_folder(tmp_path: Path) -> Callable[[Mapping[str, bytes]], Path]:
    """Makes a mirror of these files, with right sums."""

    def make(files: Mapping[str, bytes]) -> Path:
        folder = tmp_path / "mirror"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
        (folder / "SHA256SUMS").write_text("".join(sums))
        return folder

    return make


def plain_image(value: int, *, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    """A JPEG of random blocks; equal values give equal bytes."""
    rng = np.random.default_rng(value)
    coarse = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def tiny_members(num_train: int = 4, num_val: int = 2) -> dict[str, bytes]:
    """An archive of ten classes s00000000...s00000009 in Tiny ImageNet's layout, every image different."""
    wnids = [f"s{number:08d}" for number in range(10)]
    members = {
        "tiny/wnids.txt": "".join(f"{wnid}\n" for wnid in reversed(wnids)).encode(),
        "tiny/words.txt": "".join(f"{wnid}\tword {wnid[-1]}, other name\n" for wnid in wnids).encode(),
    }
    value = 0
    for wnid in wnids:
        for number in range(num_train):
            members[f"tiny/train/{wnid}/images/{wnid}_{number}.JPEG"] = plain_image(value := value + 1)
    lines = []
    for number in range(num_val * len(wnids)):
        members[f"tiny/val/images/val_{number}.JPEG"] = plain_image(value := value + 1)
        lines.append(f"val_{number}.JPEG\t{wnids[number % 10]}\t0\t0\t7\t7\n")
    members["tiny/val/val_annotations.txt"] = "".join(lines).encode()
    return members


def zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def raw_folder(tmp_path: Path) -> Callable[[bytes], Path]:
    """Makes a raw folder whose one archive, tiny.zip, has this content and is noted in source.json."""

    def make(content: bytes) -> Path:
        folder = tmp_path / "raw/tiny"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.zip").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        file = SourceFile("tiny.zip", "http://example.org/tiny.zip", sha256, len(content), f"sha256:{sha256}", False)
        write_source(folder, SourceNote("tiny", (file,)))
        return folder

    return make


@pytest.fixture
def make_members() -> Callable[..., dict[str, bytes]]:
    return tiny_members


@pytest.fixture
def make_zip() -> Callable[[Mapping[str, bytes]], bytes]:
    return zipped


@pytest.fixture
def make_image() -> Callable[..., bytes]:
    return plain_image


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    if sys.platform != "linux" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
