"""The results tables in the README: those of reports/results.md, between two markers."""

from __future__ import annotations

import re
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import read_text, write_text

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def update_readme(readme_path: Path, results_path: Path) -> bool:
    """Replace the tables between the markers; returns true where that changed the README."""
    before = read_text(readme_path)
    after = _with_results(before, readme_path, read_text(results_path))
    if after != before:
        write_text(readme_path, after)
    return after != before


def readme_is_current(readme_path: Path, results_path: Path) -> bool:
    """Return true where the README's tables are those of reports/results.md."""
    text = read_text(readme_path)
    return _with_results(text, readme_path, read_text(results_path)) == text


def _with_results(text: str, path: Path, results: str) -> str:
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{path}: expected one line {BEGIN} and, after it, one line {END}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n\n{_section(results)}\n\n{END}{after}"


def _section(results: str) -> str:
    """Return the results without their title, with headings one level deeper, as part of a section of the README."""
    body = re.sub(r"\A# .*\n+", "", results)
    return re.sub(r"^(#+) ", r"#\1 ", body, flags=re.MULTILINE).strip()
