"""Results in the documents: headline tables in README.md, all tables in docs/results.md, each between two markers."""

from __future__ import annotations

import re
from pathlib import Path

from seesay.core.errors import InputError
from seesay.core.files import read_text, write_text
from seesay.core.paths import Paths
from seesay.report.headlines import headlines_markdown
from seesay.report.results import read_results

README, RESULTS = "README.md", "docs/results.md"


def update_documents(root: Path) -> list[str]:
    """Rewrite the documents whose tables are not those of reports/, and return their names.

    Raises `InputError` where a document or a file in reports/ is missing, or a marker is.
    """
    outdated = _outdated(root)
    for name, text in outdated.items():
        write_text(root / name, text)
    return list(outdated)


def outdated_documents(root: Path) -> list[str]:
    """Return the names of the documents whose tables are not those of reports/."""
    return list(_outdated(root))


def has_documents(root: Path) -> bool:
    """Whether `root` is a repository with documents to update; a workspace under .work has none."""
    return all((root / name).is_file() for name in (README, RESULTS))


def _outdated(root: Path) -> dict[str, str]:
    """The new text of every document that differs from the one in place, by name."""
    paths = Paths(root)
    contents = {
        README: ("headlines", headlines_markdown(read_results(paths.results_data))),
        RESULTS: ("results", _one_level_deeper(read_text(paths.results))),
    }
    texts = {name: read_text(root / name) for name in contents}
    new = {name: _between(texts[name], root / name, *contents[name]) for name in contents}
    return {name: text for name, text in new.items() if text != texts[name]}


def _between(text: str, path: Path, marker: str, content: str) -> str:
    """`text` with `content` between the lines `<!-- marker:begin -->` and `<!-- marker:end -->`."""
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise InputError(f"{path}: expected one line {begin} and, after it, one line {end}")
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def _one_level_deeper(results: str) -> str:
    """The tables without their title, headings one level deeper, as part of a section of the document."""
    body = re.sub(r"\A# .*\n+", "", results)
    return re.sub(r"^(#+) ", r"#\1 ", body, flags=re.MULTILINE).strip()
