"""How a picture gets into the page itself, so that the page opens without any other file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

_NOT_DRAWN = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_PLAIN = " /:=;,'()?@!$*+.-_~|[]{}"


def embedded(path: Path) -> Markup | None:
    """The picture as a data URI, safe inside double quotes; None where there is no such file.

    SVG is percent-encoded without what is not drawn, which takes a quarter less room than base64; as an image, not as
    part of the page, it can neither run scripts nor share ids with other figures.
    """
    if not path.is_file():
        return None
    if path.suffix == ".svg":
        text = _NOT_DRAWN.sub("", path.read_text(encoding="utf-8")).replace('"', "'")
        text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").strip()
        # A hundredth of a point is finer than any screen; numbers below one are left alone, scales are among them.
        text = re.sub(r"(?<![\d.])([1-9]\d*\.\d\d)\d+", r"\1", text)
        return Markup("data:image/svg+xml," + quote(text, safe=_PLAIN))
    kind = {".png": "png", ".webp": "webp"}[path.suffix]
    return Markup(f"data:image/{kind};base64," + base64.b64encode(path.read_bytes()).decode())
