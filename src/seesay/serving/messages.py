"""What the server takes and returns: pictures, options, answers, errors; and the limits of its connections."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
from fastapi import HTTPException
from PIL import Image
from pydantic import BaseModel, Field, ValidationError
from uvicorn.protocols.http.h11_impl import H11Protocol

from seesay.core.errors import InputError
from seesay.images.pixels import read_rgb
from seesay.serving.batcher import Options, Pixels, check_options, prepare, shown_regions
from seesay.serving.command import Answers, Speaker
from seesay.serving.predictor import Caption, Classifier, Evidence, Prediction

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow knows more. Some are read by other programs (EPS), others by code that is hardly ever tried."""


class JsonRequest(Options):
    """A picture as JSON."""

    image: str = Field(description="The content of the picture's file, as base64.")


class WordReply(BaseModel):
    """A word of a caption, and where the captioner looked as it said it: a greyscale PNG, as base64."""

    word: str
    weights: str


class AnswerReply(BaseModel):
    """A class with its calibrated probability, or a caption with its log-probability.

    With `explain`, `weights` or `words` say where the model looked.
    """

    label: str | None = None
    wnid: str | None = None
    score: float | None = None
    weights: str | None = None
    caption: str | None = None
    log_probability: float | None = None
    words: list[WordReply] | None = None


class Reply(BaseModel):
    """The answers of each model by name, best first.

    With `explain`, `regions` say which part of the picture `weights` are about: left, top, width and height as shares
    of the picture's width and height.
    """

    answers: dict[str, list[AnswerReply]]
    regions: dict[str, list[float]] | None = None


class ErrorReply(BaseModel):
    """An error in one sentence."""

    error: str


REQUEST_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {"schema": JsonRequest.model_json_schema()},
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Reply},
    **{status: {"model": ErrorReply} for status in (400, 408, 413, 415, 422, 503)},
}


@dataclass(frozen=True)
class Picture:
    """A decoded request: `size` is the picture's width and height."""

    options: Options
    pixels: Pixels
    size: tuple[int, int]


def decode_request(
    body: bytes, *, is_json: bool, options: Options, models: Sequence[Speaker], max_pixels: int
) -> Picture:
    """Decode a body, in which JSON may state further options; raises `HTTPException` for what it should not be."""
    content = body
    if is_json:
        try:
            parsed = JsonRequest.model_validate_json(body)
        except ValidationError as error:
            raise HTTPException(422, sentence_of(error.errors())) from None
        try:
            content = base64.b64decode(parsed.image, validate=True)
        except ValueError:
            raise HTTPException(422, "image: expected the content of a file, as base64.") from None
        options = options.model_copy(update=parsed.model_dump(exclude_unset=True, exclude={"image"}))
    try:
        check_options(models, options)
    except InputError as error:
        raise HTTPException(422, f"{error}.") from None
    image = decode_picture(content, max_pixels=max_pixels)
    return Picture(options, prepare(models, image), image.size)


def decode_picture(content: bytes, *, max_pixels: int) -> Image.Image:
    """Return a picture in RGB, upright; raises `HTTPException`. Its size is checked before its pixels are decoded."""
    known = [name for name in FORMATS if name in Image.OPEN]
    too_large = HTTPException(413, f"The picture is too large: at most {max_pixels:,} pixels are taken.")
    try:
        with Image.open(io.BytesIO(content), formats=known) as opened:
            if opened.width * opened.height > max_pixels:
                raise too_large
            return read_rgb(opened)
    except (HTTPException, Image.DecompressionBombError):
        raise too_large from None
    except InputError as error:
        raise HTTPException(422, f"The picture is {error}.") from None
    except Exception:  # of damaged heads, Pillow raises anything
        expected = f"{', '.join(known[:-1])} or {known[-1]}"
        raise HTTPException(422, f"The body is not a readable picture: expected {expected}.") from None


def render_reply(models: Sequence[Speaker], picture: Picture, answers: Sequence[Answers]) -> bytes:
    """Return the JSON of a `Reply`."""
    named = {model.name: of_model for model, of_model in zip(models, answers, strict=True)}
    reply: dict[str, Any] = {"answers": {name: [_answer(one) for one in some] for name, some in named.items()}}
    if picture.options.explain:
        reply["regions"] = shown_regions(models, picture.size)
    return json.dumps(reply, ensure_ascii=False).encode()


def describe_model(model: Speaker) -> dict[str, Any]:
    """Return a model's name, its kind, and the most classes or captions that it answers with."""
    if isinstance(model, Classifier):
        return {"name": model.name, "kind": "classifier", "classes": len(model.classes)}
    return {"name": model.name, "kind": "captioner", "captions": model.max_captions}


def sentence_of(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the first of pydantic's errors as a sentence."""
    where = ".".join(str(part) for part in errors[0]["loc"])
    return f"{where}: {errors[0]['msg']}."[:300] if where else f"{errors[0]['msg']}."[:300]


def _answer(answer: Prediction | Caption) -> dict[str, Any]:
    content = answer.to_json()
    if isinstance(answer, Prediction):
        return content if answer.evidence is None else {**content, "weights": _png(answer.evidence)}
    if answer.evidence is None:
        return content
    words = zip(answer.words, answer.evidence, strict=False)
    return {**content, "words": [{"word": word, "weights": _png(evidence)} for word, evidence in words]}


def _png(evidence: Evidence) -> str:
    """Return a map as a greyscale PNG, white at its largest weight, in base64."""
    share = evidence.weights / max(float(evidence.weights.max()), np.finfo(np.float32).tiny)
    buffer = io.BytesIO()
    Image.fromarray((255 * share).round().astype(np.uint8)).save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


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
