"""Checks of pages in headless Chromium: axe-core's rules, and whether a page is wider than the window.

`python tests/report/browser_checks.py reports/*.html` checks pages by hand; the tests check those of a workspace.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from html import escape, unescape
from pathlib import Path

WIDTHS = (390, 1300, 2000)
"""Windows of a phone, a notebook and a wide screen, in CSS pixels."""

SERIOUS = ("serious", "critical")
AXE = "axe-core@4.14.1"
_DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")

_PROBE = """
addEventListener("load", async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  const root = document.documentElement;
  parent.postMessage({
    page: document.body.dataset.page, width: innerWidth, overflow: root.scrollWidth - root.clientWidth,
    isDark: matchMedia("(prefers-color-scheme: dark)").matches,
    findings: found.violations.map((one) => [one.id, one.impact, one.nodes.slice(0, 3).map((it) => it.html)]),
  }, "*");
});
"""

_FRAME = """<!DOCTYPE html><meta charset="utf-8"><pre id="results"></pre>
<script>
const found = [];
addEventListener("message", (event) => {
  found.push(event.data);
  document.getElementById("results").textContent = JSON.stringify(found);
});
</script>
"""


def find_chromium():
    """Return the path of Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


def install_axe(folder):
    """Install axe-core by npm; returns its script, or None where there is no npm or no registry."""
    npm = shutil.which("npm")
    if npm is None:
        return None
    command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", AXE]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=90)
    except (subprocess.SubprocessError, OSError):
        return None
    script = folder / "node_modules/axe-core/axe.min.js"
    return script if script.is_file() else None


def check_pages(chromium, axe, pages, *, is_dark, timeout=600):
    """Return what was found on each page at each width: dicts with `page`, `width`, `overflow`, `isDark`, `findings`.

    One browser shows all of them, each in a frame of its own.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = []
        for page in pages:
            text = page.read_text(encoding="utf-8")
            body = f'<body data-page="{escape(page.name)}">'
            script = f"<script>{axe.read_text(encoding='utf-8')}</script><script>{_PROBE}</script>"
            (folder / page.name).write_text(text.replace("<body>", body).replace("</body>", f"{script}</body>"))
            frames += [f'<iframe src="{page.name}" width="{width}" height="900"></iframe>' for width in WIDTHS]
        (folder / "frames.html").write_text(_FRAME + "\n".join(frames))
        command = [
            *(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
            *("--virtual-time-budget=60000", "--timeout=300000", *(_DARK if is_dark else ()), "--dump-dom"),
            (folder / "frames.html").as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    results = re.search(r'<pre id="results">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(unescape(results[1]) or "[]") if results else []


def problems(results, *, num_pages, is_dark):
    """Return a line for each serious finding, for each page wider than its window, and for a missing result."""
    expected, lines = num_pages * len(WIDTHS), []
    if len(results) != expected:
        lines.append(f"{len(results)} results, expected {expected}")
    for one in results:
        where = f"{one['page']} at {one['width']} px, {'dark' if is_dark else 'light'}"
        if one["isDark"] != is_dark:
            lines.append(f"{where}: the browser shows the other colours")
        if one["overflow"] > 0:
            lines.append(f"{where}: {one['overflow']} px wider than the window")
        lines += [f"{where}: {rule}: {nodes}" for rule, impact, nodes in one["findings"] if impact in SERIOUS]
    return lines


def main(pages):
    with tempfile.TemporaryDirectory() as folder:
        chromium, axe = find_chromium(), install_axe(Path(folder))
        assert chromium, "no Chromium"
        assert axe, "no axe-core"
        for is_dark in (False, True):
            results = check_pages(chromium, axe, pages, is_dark=is_dark)
            lines = problems(results, num_pages=len(pages), is_dark=is_dark)
            sys.stdout.write("\n".join(lines or ["no serious finding"]) + "\n")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
