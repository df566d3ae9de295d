"""A server in a thread, and a client of it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from seesay.serving.command import Speaker
from seesay.serving.server import Limits, bind, build_server, create_app


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    port: int

    def ask(self, body: bytes = b"", kind: str | None = "image/png", query: str = "", **options: Any) -> Answer:
        headers = {} if kind is None else {"Content-Type": kind}
        return self.request("POST", f"/v1/predict{query}", body, headers, **options)

    def request(self, method: str, path: str, body: Any = None, headers: Any = None, **options: Any) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {}, **options)
            answer = connection.getresponse()
            return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)


@contextmanager
def serving(models: Sequence[Speaker], **limits: Any) -> Iterator[Client]:
    listener = bind("127.0.0.1", 0)
    server = build_server(create_app(models, Limits(**limits)))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Client(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
