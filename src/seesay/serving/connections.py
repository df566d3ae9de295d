"""Connections with limits of time and number, which uvicorn's own have only between requests."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 512
HEAD_SECONDS = 10.0
"""A request's head must arrive this long after its connection was made or has answered the request before."""
SEND_SECONDS = 30.0
"""A client that takes no more bytes of an answer is waited for this long."""
GRACE_SECONDS = 5.0
"""Answers under way may take this long when the server stops."""


class BoundedConnection(H11Protocol):
    """A connection that ends when its client sends no request, or does not take the answer."""

    _head_timer: asyncio.TimerHandle | None = None
    _send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The server has too many connections.", "Retry-After: 1\r\n")
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head_timer, self._send_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._head_timer is not None:  # of the rest of a body that nobody reads, or of a pipelined request
            self._head_timer.cancel()
            self._head_timer = None
        self._expect_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._send_timer = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()

    def shutdown(self) -> None:
        """Let an answer under way end, and nothing else."""
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body:
            self.transport.abort()
            return
        super().shutdown()
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(SEND_SECONDS, self.transport.abort)  # closing waits for the client to take what is left

    def send_400_response(self, msg: str) -> None:
        if self._is_answering() and self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "This is not a valid HTTP request.")

    def _expect_head(self) -> None:
        """Start the timer of the next request's head, unless it runs; stop it while a request is answered."""
        if self._is_answering():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: HTTPStatus, sentence: str, headers: str = "") -> None:
        body = json.dumps({"error": sentence})
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nConnection: close\r\n"
        self.transport.write(f"{head}{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        self.transport.close()
