"""The server answers what the models say, as JSON and on a page, and bad requests harm nobody but themselves."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.serving.running import Client, serving

import seesay
from seesay.core.errors import InputError
from seesay.images.pixels import Transform
from seesay.serving import batcher, messages
from seesay.serving.batcher import shown_regions
from seesay.serving.command import Speaker
from seesay.serving.predictor import Classifier
from seesay.serving.server import Limits, create_app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def models(trained: Path) -> list[Speaker]:
    names = ("classifiers/resnet9", "captioners/on_grid", "captioners/on_vectors")
    found = [seesay.load(trained / "models" / name, device="cpu") for name in names]
    return [model for model in found if not hasattr(model, "reconstruct")]  # type: ignore[misc]


@pytest.fixture(scope="module")
def client(models: list[Speaker]) -> Iterator[Client]:
    with serving(models[:2]) as found:
        yield found


@pytest.fixture(scope="module")
def contents(pictures: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in pictures]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says that it has this size, and has hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


BOMB = png_of_size(20_000, 10_000)


def expected_of(models: Sequence[Speaker], content: bytes, *, top: int = 5, captions: int = 1) -> dict[str, Any]:
    """What the models say in Python, as the server should say it."""
    return {
        model.name: [
            one.to_json()
            for one in (
                model(content, top=top) if isinstance(model, Classifier) else model(content, num_captions=captions)
            )
        ]
        for model in models
    }


def same(got: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether answers are equal, but for the last digits, in which batches differ."""
    if list(got) != list(expected):
        return False
    pairs = [pair for name in got for pair in zip(got[name], expected[name], strict=True)]
    return all(one == {key: _nearly(value) for key, value in other.items()} for one, other in pairs)


def _nearly(value: Any) -> Any:
    return pytest.approx(value, rel=5e-5, abs=1e-4) if isinstance(value, float) else value


def test_a_picture_is_answered_as_in_python_however_it_is_sent(client, models, contents):
    for content in contents:
        expected = expected_of(models[:2], content)
        as_json = json.dumps({"image": base64.b64encode(content).decode()}).encode()
        for body, kind in ((content, "image/jpeg"), (content, None), (content, "application/x-www-form-urlencoded"),
                           (as_json, "application/json; charset=utf-8")):  # fmt: skip
            answer = client.ask(body, kind)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert same(answer.json["answers"], expected)


def test_options_come_in_the_query_or_in_json(client, models, contents):
    image = base64.b64encode(contents[0]).decode()
    expected = expected_of(models[:2], contents[0], top=2, captions=3)
    assert same(client.ask(contents[0], query="?top=2&captions=3").json["answers"], expected)
    for body, query in (({"top": 2, "captions": 3}, ""), ({"top": 2}, "?top=4&captions=3")):
        answer = client.ask(json.dumps({"image": image, **body}).encode(), "application/json", query)
        assert same(answer.json["answers"], expected)


def test_explanations_are_maps_over_a_part_of_the_picture(client, models, contents):
    content = contents[0]
    reply = client.ask(content, query="?explain=true&captions=2").json
    classes = models[0](content, explain=True)
    captions = models[1](content, num_captions=2, explain=True)
    classifier, captioner = (reply["answers"][model.name] for model in models[:2])
    shown = [(one["weights"], found.evidence) for one, found in zip(classifier, classes, strict=True)]
    for one, found in zip(captioner, captions, strict=True):
        assert [each["word"] for each in one["words"]] == found.words
        shown += [(each["weights"], evidence) for each, evidence in zip(one["words"], found.evidence, strict=False)]
    for weights, evidence in shown:
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(weights)))) / 255
        assert found == pytest.approx(evidence.weights / max(evidence.weights.max(), 1e-9), abs=0.01)
    assert set(reply["regions"]) == {model.name for model in models[:2]}
    assert "regions" not in client.ask(content).json


def test_a_captioner_on_vectors_explains_nothing_and_still_answers(models, contents):
    with serving(models[2:]) as client:
        reply = client.ask(contents[0], query="?explain=true").json
        assert same(reply["answers"], expected_of(models[2:], contents[0]))
        assert reply["regions"] == {}
        assert client.ask(contents[0], query="?captions=2").json == {"error": "captions: got 2: on_vectors decodes 1."}


def test_a_region_is_the_centre_that_the_transform_leaves(models):
    classifier = models[0]
    assert isinstance(classifier, Classifier)
    whole, cropped = classifier.transform, Transform(32, 40, "bicubic")
    assert shown_regions([classifier], (200, 100)) == {"resnet9": [0.25, 0.0, 0.5, 1.0]}
    assert shown_regions([classifier], (50, 50)) == {"resnet9": [0.0, 0.0, 1.0, 1.0]}
    try:
        classifier.transform = cropped
        assert shown_regions([classifier], (100, 200)) == {"resnet9": [0.1, 0.3, 0.8, 0.4]}
        assert shown_regions([classifier], (50, 50)) == {"resnet9": [0.0, 0.0, 1.0, 1.0]}  # squares are not cropped
    finally:
        classifier.transform = whole


BAD: list[tuple[bytes, str | None, str, int]] = [
    (b"", "image/png", "", 400),
    (b"no picture", "image/png", "", 422),
    (b"no picture", None, "", 422),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/eps", "", 422),
    (BOMB, "image/png", "", 413),
    (BOMB[:-14], "image/png", "", 413),
    (png_of_size(30_000, 30_000), "image/png", "", 413),
    (png_of_size(64, 64), "image/png", "", 422),
    (png_of_size(0, 0), "image/png", "", 422),
    (b"picture", "text/plain", "", 415),
    (b"picture", "multipart/form-data; boundary=x", "", 415),
    (b"picture", "image/png", "?top=0", 422),
    (b"picture", "image/png", "?top=five", 422),
    (b"picture", "image/png", "?tops=5", 422),
    (b"picture", "image/png", "?captions=99", 422),
    (b"{", "application/json", "", 422),
    (b"[" * 100_000, "application/json", "", 422),
    (b"\xff\xfe", "application/json", "", 422),
    (b"{}", "application/json", "", 422),
    (b'{"image": 1}', "application/json", "", 422),
    (b'{"image": "\xc3\xa4"}', "application/json", "", 422),
    (b'{"image": "bm8gcGljdHVyZQ=="}', "application/json", "", 422),
    (b'{"image": "", "url": "file:///etc/passwd"}', "application/json", "", 422),
]


@pytest.mark.parametrize(("body", "kind", "query", "status"), BAD, ids=range(len(BAD)))
def test_a_bad_request_gets_one_sentence_as_json(client, body, kind, query, status):
    answer = client.ask(body, kind, query)
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert re.fullmatch(r"[^\n]+\.", answer.json["error"])
    assert not re.search(r"/(home|tmp|usr|work)|Traceback|site-packages|0x", answer.json["error"])


def test_a_cut_picture_is_refused(client, contents):
    answer = client.ask(contents[0][: len(contents[0]) // 2])
    assert answer.status == 422
    assert "truncated" in answer.json["error"]


def test_other_addresses_and_methods_get_json_too(client):
    for method, path, status in (("GET", "/v1/predict", 405), ("DELETE", "/", 405), ("GET", "/docs", 404),
                                 ("GET", "/redoc", 404), ("GET", "/../etc/passwd", 404)):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status == status
        assert answer.json["error"].endswith(".")


def test_health_and_openapi_describe_the_server(client, models):
    health = client.request("GET", "/health").json
    described = [{"name": "resnet9", "kind": "classifier", "classes": 6},
                 {"name": "on_grid", "kind": "captioner", "captions": 3}]  # fmt: skip
    assert health == {"status": "ok", "models": described}
    operation = client.request("GET", "/openapi.json").json["paths"]["/v1/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"image/*", "application/json"}
    assert {one["name"] for one in operation["parameters"]} == {"top", "captions", "explain"}
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "503"}


def test_too_large_bodies_are_refused_before_they_are_read(models, contents):
    with serving(models[:1], body_bytes=len(contents[0])) as client:
        assert client.ask(contents[0]).status == 200
        assert client.ask(contents[0] + b"\0").status == 413
        chunks = (bytes(1000) for _ in range(len(contents[0]) // 500))
        assert client.ask(chunks, encode_chunked=True).status == 413  # type: ignore[arg-type]
        with client.open() as connection:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
            assert connection.recv(99).startswith(b"HTTP/1.1 413 ")


def test_bodies_of_one_moment_share_a_limit(models, contents):
    with serving(models[:1], all_bodies_bytes=len(contents[0]) + 100) as client:
        assert client.ask(contents[0]).status == 200
        with client.open() as connection:
            connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(500))
            wait_until(lambda: client.ask(contents[0]).status == 503)
        wait_until(lambda: client.ask(contents[0]).status == 200)  # that client has gone


def test_slow_clients_hold_nobody_up_and_are_let_go(models, contents, monkeypatch):
    monkeypatch.setattr(messages, "HEAD_SECONDS", 0.3)
    with serving(models[:1], body_seconds=0.3, pending=1) as client:
        slow = [client.open() for _ in range(6)]
        for one, head in zip(slow, (b"", b"POST /v1", b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n") * 2, strict=True):
            one.sendall(head)
        body = client.open()
        body.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + contents[0][:10])
        assert client.ask(contents[0]).status == 200
        assert [one.recv(99) for one in slow] == [b""] * 6
        reply = read_all(body)
        assert reply.startswith(b"HTTP/1.1 408 ")
        assert reply.endswith(b'{"error":"The body did not arrive within 0.3 seconds."}')


def test_a_client_that_takes_no_answer_is_let_go(models, monkeypatch):
    monkeypatch.setattr(messages, "SEND_SECONDS", 0.3)
    with serving(models[:1]) as client, client.open() as connection:
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.settimeout(10)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            while True:  # until the answers fill both buffers
                connection.sendall(request * 100)
        assert client.request("GET", "/health").status == 200


def test_what_is_not_http_and_clients_that_go_harm_nobody(models, contents, monkeypatch, capfd):
    with serving(models[:1]) as client:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\n"
        for sent in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", head + b"Content-Length: -1\r\n\r\n",
                     head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET " + b"a" * 100_000):  # fmt: skip
            with client.open() as connection:
                connection.sendall(sent)
                reply = read_all(connection)
            assert reply.startswith(b"HTTP/1.1 400 ")
            assert json.loads(reply.partition(b"\r\n\r\n")[2]) == {"error": "This is not a valid HTTP request."}
        for sent in (b"", b"PO", head, head + b"Content-Length: 99\r\n\r\nabc"):
            with client.open() as connection:
                connection.sendall(sent)
        with client.open() as connection:  # two requests at once
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n"
                               b"Connection: close\r\n\r\n")  # fmt: skip
            assert b"".join(iter(lambda: connection.recv(65536), b"")).count(b"HTTP/1.1 200 OK") == 2
        monkeypatch.setattr(messages, "MAX_CONNECTIONS", 1)
        with client.open() as first:
            first.sendall(b"GET")
            wait_until(lambda: client.request("GET", "/health").status == 503)
        wait_until(lambda: client.request("GET", "/health").status == 200)
        assert client.ask(contents[0]).status == 200
    assert capfd.readouterr().err == ""


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[int], list[Any]]]:
    """An event for which each batch waits, the batches' sizes, and what was submitted."""
    event, sizes, answer = threading.Event(), [], batcher.answer_batch
    submitted, submit = [], batcher.Batcher.submit

    def wait(models: Any, batch: Any, options: Any) -> Any:
        if batch:
            sizes.append(len(batch))
            assert event.wait(60)
        return answer(models, batch, options)

    def note(self: batcher.Batcher, *job: Any) -> Any:
        submitted.append(job)
        return submit(self, *job)

    monkeypatch.setattr(batcher, "answer_batch", wait)
    monkeypatch.setattr(batcher.Batcher, "submit", note)
    yield event, sizes, submitted
    event.set()


def test_requests_of_one_moment_are_one_batch(models, contents, held):
    event, sizes, submitted = held
    with serving(models[:2], pending=9, batch=6) as client, ThreadPoolExecutor(9) as pool:
        first = pool.submit(client.ask, contents[0])
        wait_until(lambda: sizes == [1])
        options = [(index % len(contents), 1 + index % 3) for index in range(8)]
        others = [pool.submit(client.ask, contents[of], query=f"?top={n}&captions={n}") for of, n in options]
        wait_until(lambda: len(submitted) == 9)
        event.set()
        assert first.result().status == 200
        for (of, number), other in zip(options, others, strict=True):
            expected = expected_of(models[:2], contents[of], top=number, captions=number)
            assert same(other.result().json["answers"], expected)
    assert sizes[:2] == [1, 6]
    assert sum(sizes) == 9


def test_what_cannot_wait_is_told_to_come_again(models, contents, held):
    event, sizes, _ = held
    with serving(models[:1], pending=1) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.ask, contents[0])
        wait_until(lambda: sizes == [1])
        answer = client.ask(contents[0])
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json == {"error": "The server is busy."}
        assert client.request("GET", "/health").status == 200
        event.set()
        assert first.result().status == 200
        wait_until(lambda: client.ask(contents[0]).status == 200)


def test_an_answer_that_takes_too_long_is_given_up(models, contents, held):
    event, _, _ = held
    with serving(models[:1], answer_seconds=0.2) as client:
        assert client.ask(contents[0]).json == {"error": "The server did not answer in time."}
        event.set()
        wait_until(lambda: client.ask(contents[0]).status == 200)


def test_a_defect_is_a_503_and_the_server_goes_on(models, contents, monkeypatch, capfd):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("secret at /somewhere")

    with serving(models[:1]) as client:
        with monkeypatch.context() as patch:
            patch.setattr(models[0], "predict", fail)
            answer = client.ask(contents[0])
        assert answer.status == 503
        assert answer.json == {"error": "The server could not answer this request."}
        assert client.ask(contents[0]).status == 200
    assert "secret at /somewhere" in capfd.readouterr().err  # in the log, with its traceback


def test_among_many_bad_requests_every_good_one_is_answered(models, contents, monkeypatch):
    monkeypatch.setattr(messages, "HEAD_SECONDS", 1.0)
    expected = [expected_of(models[:2], content) for content in contents]
    bad = [(contents[0][:300], "image/png"), (b"no picture", "image/png"), (BOMB, "image/png"), (b"", "image/png"),
           (contents[0], "text/html")]  # fmt: skip

    def ask(client: Client, number: int) -> tuple[int, bool]:
        draw = random.Random(number)
        if draw.random() < 0.1:
            return client.ask(*draw.choice(bad)).status, True
        if draw.random() < 0.02:
            with client.open() as slow:
                slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
                return int(read_all(slow).split()[1]), True
        of = draw.randrange(len(contents))
        while (answer := client.ask(contents[of])).status == 503:
            time.sleep(0.05)
        return answer.status, answer.status == 200 and same(answer.json["answers"], expected[of])

    with serving(models[:2], body_seconds=1.0) as client, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda number: ask(client, number), range(400)))
    assert {status for status, _ in found} == {200, 400, 408, 413, 415, 422}
    assert all(right for _, right in found)


def test_models_of_equal_names_are_refused(models):
    with pytest.raises(InputError, match=r"--model: got resnet9, resnet9: expected different names"):
        create_app([models[0], models[0]], Limits())


def test_the_page_reaches_no_other_host(client):
    answer = client.request("GET", "/")
    page = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "://" not in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "innerHTML" not in page  # labels are text


def start_serve(arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *sys.path])}
    command = [sys.executable, "-m", "seesay.cli", "serve", *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(trained, contents, number):
    process = start_serve(["--port", "0", "--model", str(trained / "models/classifiers/resnet9"), "--device", "cpu"])
    try:
        assert process.stdout is not None
        found = re.fullmatch(
            r"resnet9 at http://127\.0\.0\.1:(\d+) \(stop it with Ctrl-C\)\n", process.stdout.readline()
        )
        assert found is not None, process.communicate()
        client = Client(int(found[1]))
        assert client.ask(contents[0]).status == 200
        taken = start_serve(["--port", found[1], "--model", "x"])
        _, error = taken.communicate(timeout=120)
        assert taken.returncode == 1
        assert error == f"seesay: error: cannot serve at host 127.0.0.1, port {found[1]}: Address already in use\n"
        with client.open() as slow:  # does not hold up the end
            slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
            process.send_signal(number)
            output, error = process.communicate(timeout=60)
        assert (output, error) == ("", "")
        assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)
    finally:
        process.kill()


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes, or has sent a whole JSON answer."""
    found = b""
    while not found.endswith(b"}") and (more := connection.recv(65536)):
        found += more
    return found


def wait_until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not come about")
