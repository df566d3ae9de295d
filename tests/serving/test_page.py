"""The server's page in a real browser, where there is Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving.running import Client, serving

import seesay

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")


class Browser:
    """Headless Chromium with one tab, driven by DevTools messages in JSON through two pipes."""

    def __init__(self, profile: Path) -> None:
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        move = f"import os, sys; os.dup2({to_read}, 3); os.dup2({to_write}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-c", move, str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(command, pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL)
        os.close(to_read)
        os.close(to_write)
        self.events: list[dict[str, Any]] = []
        self._received, self._count, self._session = b"", 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._received:
                more = os.read(self._read, 1 << 16)
                assert more, "Chromium has ended"
                self._received += more
            first, _, self._received = self._received.partition(b"\0")
            answer = json.loads(first)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str) -> None:
        for _ in range(300):
            if self.run(script):
                return
            time.sleep(0.1)
        pytest.fail(f"{script}: {self.run('document.body.innerText')}")

    def choose(self, path: Path) -> None:
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector="#file")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def of_events(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def client(trained: Path) -> Iterator[Client]:
    names = ("classifiers/resnet9", "captioners/on_grid")
    with serving([seesay.load(trained / "models" / name, device="cpu") for name in names]) as client:
        yield client


@pytest.fixture
def browser(client: Client, tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path / "profile")
    try:
        browser.call("Page.navigate", url=f"http://127.0.0.1:{client.port}/")
        browser.wait("document.querySelector('#models')?.textContent.includes('on_grid')")
        yield browser
    finally:
        browser.close()


def test_the_page_answers_a_picture_and_shows_where_models_looked(browser, client, pictures):
    expected = client.ask(pictures[0].read_bytes(), query="?captions=3").json["answers"]
    browser.choose(pictures[0])
    browser.wait("!document.querySelector('#result').hidden")
    labels = browser.run("[...document.querySelectorAll('.class')].map(one => one.children[1].textContent)")
    assert labels == [one["label"] for one in expected["resnet9"]]
    words = "[...one.querySelectorAll('button')].map(word => word.textContent).join(' ')"
    captions = browser.run(f"[...document.querySelectorAll('.caption')].map(one => {words})")
    assert captions == [one["caption"] for one in expected["on_grid"]]
    said = browser.run("document.querySelector('[role=status]').textContent")
    assert said.startswith(f"The picture shows: {labels[0]}, ")

    # With the keyboard alone: from the input to the first class, and on to a word.
    browser.run("document.querySelector('#file').focus()")
    browser.press("Tab", 9)
    browser.press("Enter", 13)
    assert browser.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert browser.run("document.querySelector('#looking').textContent") == f"Bright: what speaks for “{labels[0]}”."
    browser.wait("document.querySelector('#map').complete && document.querySelector('#map').naturalWidth > 0")
    first = browser.run("document.querySelector('#map').src")
    browser.run("document.querySelector('.caption button').focus()")
    browser.press("Enter", 13)
    assert browser.run("document.querySelector('#map').src") != first
    assert browser.run("document.querySelectorAll('[aria-pressed=true]').length") == 1
    browser.press("Escape", 27)
    assert browser.run("document.querySelector('#map').hidden")

    hosts = {one["request"]["url"].split("/")[2] for one in browser.of_events("Network.requestWillBeSent")
             if one["request"]["url"].startswith("http")}  # fmt: skip
    assert hosts == {f"127.0.0.1:{client.port}"}
    assert browser.of_events("Runtime.exceptionThrown") == []
    assert browser.of_events("Log.entryAdded") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (360, 740)])
def test_the_page_fits_screens_and_follows_the_scheme(browser, pictures, scheme, width, height):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=True)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.choose(pictures[0])
    browser.wait("!document.querySelector('#result').hidden")
    assert browser.run("document.documentElement.scrollWidth") <= width
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 18, 20)"}[scheme]


def test_an_error_is_shown_and_the_next_picture_is_answered(browser, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(pictures[0].read_bytes()[:200])
    browser.choose(tmp_path / "broken.png")
    browser.wait("document.querySelector('#status.error')?.textContent.startsWith('The picture is not a readable')")
    browser.choose(pictures[0])
    browser.wait("!document.querySelector('#result').hidden && !document.querySelector('#status.error')")
