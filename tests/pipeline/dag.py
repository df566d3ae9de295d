"""The graph in ARCHITECTURE.md: what `dvc dag --md` prints; run as a script (`make dag`) it writes it there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- dag:begin -->", "<!-- dag:end -->"


def print_dag() -> str:
    """What DVC says of the flow, as a Mermaid diagram in Markdown."""
    command = [sys.executable, "-m", "dvc", "dag", "--md"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def with_dag(text: str, dag: str) -> str:
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{dag}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_dag(DOCUMENT.read_text(encoding="utf-8"), print_dag()), encoding="utf-8")
