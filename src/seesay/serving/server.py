"""The HTTP server of `seesay serve`: an application for pictures, its limits, and the page at its root."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from seesay.core.errors import InputError
from seesay.serving.batcher import Batcher, Busy, Options, answer_batch, prepare
from seesay.serving.command import Speaker
from seesay.serving.messages import (
    REQUEST_BODY,
    RESPONSES,
    BoundedConnection,
    decode_request,
    describe_model,
    render_reply,
    sentence_of,
)

UNNAMED_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""The content types of clients that do not say what they send, such as curl."""

PAGE_HEADERS = {  # the browser itself keeps the page from other hosts
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src blob: data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

SENTENCES = {
    404: "There is nothing at this address: POST pictures to /v1/predict.",
    405: "This address does not take this method: POST pictures to /v1/predict.",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """The most that a server takes. Each image that waits counts as pending until it is answered."""

    body_bytes: int = 20_000_000
    body_seconds: float = 30.0
    all_bodies_bytes: int = 256_000_000
    pixels: int = 50_000_000
    pending: int = 64
    batch: int = 16
    answer_seconds: float = 60.0


class Bodies:
    """A reader of requests' bodies, of which `num_bytes` are in memory."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.num_bytes = limits, 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body, which counts as in memory until the context ends; raises `HTTPException` beyond the limits."""
        limits, body = self.limits, bytearray()
        too_large = HTTPException(413, f"The body is too large: at most {limits.body_bytes:,} bytes are taken.")
        if int(request.headers.get("content-length", "0")) > limits.body_bytes:
            raise too_large
        try:
            try:
                async with asyncio.timeout(limits.body_seconds):
                    async for chunk in request.stream():
                        body += chunk
                        self.num_bytes += len(chunk)
                        if len(body) > limits.body_bytes:
                            raise too_large
                        if self.num_bytes > limits.all_bodies_bytes:
                            raise _busy("The server receives too many pictures at the moment.")
            except TimeoutError:
                sentence = f"The body did not arrive within {limits.body_seconds:g} seconds."
                raise HTTPException(408, sentence) from None
            if not body:
                raise HTTPException(400, "The body is empty: expected a picture.")
            yield bytes(body)
        finally:
            self.num_bytes -= len(body)


def create_app(models: Sequence[Speaker], limits: Limits) -> FastAPI:
    """Return the application; its thread of models ends with its lifespan.

    Raises `InputError` for models of equal names, which answers could not tell apart.
    """
    if len({model.name for model in models}) < len(models):
        raise InputError(f"--model: got {', '.join(model.name for model in models)}: expected different names")
    Image.init()
    page = files("seesay.serving").joinpath("page.html").read_text(encoding="utf-8")
    bodies, pool = Bodies(limits), ThreadPoolExecutor(min(os.cpu_count() or 1, 4), thread_name_prefix="pictures")
    batcher = Batcher(models, max_batch=limits.batch, max_pending=limits.pending)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        pool.shutdown(cancel_futures=True)
        batcher.close()

    async def in_pool(call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, call, *arguments)

    app = FastAPI(
        title="seesay",
        version=version("seesay"),
        docs_url=None,  # FastAPI's pages load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=_HANDLERS,
    )

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the server answers, and with which models."""
        return {"status": "ok", "models": [describe_model(model) for model in models]}

    @app.post("/v1/predict", responses=RESPONSES, openapi_extra={"requestBody": REQUEST_BODY})
    async def predict(request: Request, options: Annotated[Options, Query()]) -> Response:
        """Say what a picture shows: classes by each classifier, captions by each captioner."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_json = content_type == "application/json"
        if not (is_json or content_type.startswith("image/") or content_type in UNNAMED_TYPES):
            raise HTTPException(415, "This content type is not taken: expected image/* or application/json.")
        async with bodies.read(request) as body:
            try:
                with batcher.admitted():
                    async with asyncio.timeout(limits.answer_seconds):
                        decode = partial(decode_request, is_json=is_json, options=options, models=models)
                        picture = await in_pool(partial(decode, body, max_pixels=limits.pixels))
                        answers = await asyncio.wrap_future(batcher.submit(picture.pixels, picture.options))
                        render = partial(render_reply, models, picture, answers)  # many PNG files, or a few lines
                        content = await in_pool(render) if picture.options.explain else render()
            except Busy:
                raise _busy("The server is busy.") from None
            except TimeoutError:
                raise _busy("The server did not answer in time.") from None
        return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})

    return app


def build_server(app: FastAPI) -> uvicorn.Server:
    """Return a server whose connections have limits; see `seesay.serving.messages`."""
    # Asyncio's loop and h11, so that the same code runs everywhere. A picture costs far more than they do.
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedConnection,
            loop="asyncio",
            ws="none",
            proxy_headers=False,
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=512,
        )
    )


def run_server(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; answers under way may end."""
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn repeats the signal when it has stopped
        return


def bind(host: str, port: int) -> socket.socket:
    """Return a socket with an address of this machine; raises `InputError` where that is not possible."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot serve at host {host}, port {port}: {getattr(error, 'strerror', error)}") from None
    return listener


def warm_up(models: Sequence[Speaker], limits: Limits) -> None:
    """Answer full batches of an empty picture, so that imports and memory are there before the first request."""
    pixels = prepare(models, Image.new("RGB", (64, 48), "grey"))
    for explain in (False, True):
        answer_batch(models, [pixels] * limits.batch, [Options(explain=explain)] * limits.batch)


def _busy(sentence: str) -> HTTPException:
    return HTTPException(503, sentence, {"Retry-After": "1"})


async def _failed(_request: Request, error: Any) -> JSONResponse:
    sentence = SENTENCES.get(error.status_code, error.detail)
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _invalid(_request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": sentence_of(error.errors())}, 422)


async def _gone(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"error": "The client has gone."}, 400)


async def _defect(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"error": "The server could not answer this request."}, 503)  # its log has the traceback


_HANDLERS: dict[Any, Any] = {
    StarletteHTTPException: _failed,
    RequestValidationError: _invalid,
    ClientDisconnect: _gone,
    Exception: _defect,
}
