"""Throughput and latency of `seesay serve`, compared with `mlflow models serve` of the same model.

Both servers answer the same pictures, in turn, for each number of clients: see benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from seesay.core.errors import InputError
from seesay.core.files import require_writable, write_json
from seesay.core.stage import guarded
from seesay.serving.bundle import Config, model_card, write_bundle
from seesay.serving.load import open_bundle
from seesay.tracking.registry import save_package

OURS, USUAL = "seesay serve", "mlflow models serve"
GOAL = 3.0
"""The target: requests per second over those of MLflow."""

START_SECONDS = 300.0


@dataclass(frozen=True)
class Server:
    """A server at `port`: how a picture's bytes become a request, and an answer the label or caption in it."""

    process: psutil.Popen
    port: int
    path: str
    health: str
    content_type: str
    encode: Callable[[bytes], bytes]
    read: Callable[[Any], str]

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", self.health)
                if connection.getresponse().status == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
            finally:
                connection.close()
        raise InputError(f"{' '.join(self.process.args)}: it did not start")

    def core_seconds(self) -> float:
        """Return the processor time of its processes so far."""
        times = [process.cpu_times() for process in (self.process, *self.process.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))


@dataclass(frozen=True)
class Turn:
    """What a turn measured: seconds, of time and of the server's cores, and each request's seconds and answer."""

    seconds: float
    core_seconds: float
    latencies: list[float]
    answers: list[str]


def run_turn(server: Server, bodies: Sequence[bytes], *, num_clients: int) -> Turn:
    """Send all bodies from `num_clients` clients, each of which keeps its connection and waits for its answer."""

    def client(number: int) -> list[tuple[int, float, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        found = []
        for index in range(number, len(bodies), num_clients):
            started = time.perf_counter()
            connection.request("POST", server.path, bodies[index], {"Content-Type": server.content_type})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise InputError(f"{server.path}: got status {answer.status}: {content[:200]!r}")
            found.append((index, time.perf_counter() - started, server.read(json.loads(content))))
        connection.close()
        return found

    started, cores = time.perf_counter(), server.core_seconds()
    with ThreadPoolExecutor(num_clients) as pool:
        found = [one for of_client in pool.map(client, range(num_clients)) for one in of_client]
    seconds, core_seconds = time.perf_counter() - started, server.core_seconds() - cores
    return Turn(seconds, core_seconds, [latency for _, latency, _ in found], [text for *_, text in sorted(found)])


def compare_servers(
    servers: Mapping[str, Server], pictures: Sequence[bytes], *, num_clients: int, num_requests: int, rounds: int
) -> dict[str, Any]:
    """Measure requests per second and latencies; each round runs every server, in turn, after one unmeasured turn."""
    chosen = [pictures[index % len(pictures)] for index in range(num_requests)]
    bodies = {name: [server.encode(picture) for picture in chosen] for name, server in servers.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in servers}
    for number in range(rounds + 1):
        for name, server in servers.items():
            turn = run_turn(server, bodies[name], num_clients=num_clients)
            if number:
                turns[name].append(turn)
    speeds = {name: [num_requests / turn.seconds for turn in some] for name, some in turns.items()}
    latencies = {name: [latency for turn in some for latency in turn.latencies] for name, some in turns.items()}
    pairs = [pair for ours, usual in zip(turns[OURS], turns[USUAL], strict=True)
             for pair in zip(ours.answers, usual.answers, strict=True)]  # fmt: skip
    ratios = [ours / usual for ours, usual in zip(speeds[OURS], speeds[USUAL], strict=True)]
    cores = {name: statistics.median(turn.core_seconds for turn in some) for name, some in turns.items()}
    return {
        "clients": num_clients,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "core_ratio": cores[USUAL] / cores[OURS],
        "same_answers": statistics.mean(ours == usual for ours, usual in pairs),
        "servers": {
            name: {
                "requests_per_second": statistics.median(speeds[name]),
                "core_ms": 1000 * cores[name] / num_requests,
                "p50_ms": 1000 * float(np.percentile(latencies[name], 50)),
                "p99_ms": 1000 * float(np.percentile(latencies[name], 99)),
            }
            for name in servers
        },
    }


@contextmanager
def start_servers(folder: Path, source: str, *, root: Path, threads: int) -> Iterator[dict[str, Server]]:
    """Start both servers of a model, as subprocesses with `threads` torch threads each."""
    bundle = open_bundle(source, root=root)
    config = bundle.config
    if config.kind == "autoencoder":
        raise InputError(f"{source}: an autoencoder: expected a classifier or a captioner")
    write_bundle(folder / "bundle", bundle, model_card(config))
    entry = {"bundle": "bundle", "kind": config.kind, "cell": config.name, "metric": "none", "value": 0.0}
    save_package(folder / "package", folder, entry)
    seesay = [sys.executable, "-m", "seesay.cli", "serve", "--model", str(folder / "bundle"), "--device", "cpu"]
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    mlflow += ["-m", str(folder / "package")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with ExitStack() as stack:
        servers = {}
        for name, command, describe_server in ((OURS, seesay, _ours), (USUAL, mlflow, _usual)):
            port = _free_port()
            process = stack.enter_context(_running([*command, "--port", str(port)], environment))
            servers[name] = describe_server(process, port, config)
            servers[name].wait_until_ready()
        yield servers


@contextmanager
def _running(command: list[str], environment: dict[str, str]) -> Iterator[psutil.Popen]:
    process = psutil.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # MLflow starts its server as a process of its own
        process.wait()


def _ours(process: psutil.Popen, port: int, config: Config) -> Server:
    key = "label" if config.kind == "classifier" else "caption"
    return Server(process, port, "/v1/predict", "/health", "image/jpeg", bytes,
                  lambda reply: str(reply["answers"][config.name][0][key]))  # fmt: skip


def _usual(process: psutil.Popen, port: int, config: Config) -> Server:
    key = "label" if config.kind == "classifier" else "caption"

    def encode(picture: bytes) -> bytes:
        return json.dumps({"dataframe_records": [{"image": base64.b64encode(picture).decode()}]}).encode()

    return Server(process, port, "/invocations", "/ping", "application/json", encode,
                  lambda reply: str(reply["predictions"][0][key]))  # fmt: skip


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_pictures(number: int, *, width: int = 320, height: int = 240) -> list[bytes]:
    """Return JPEG files of random coarse colours."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(number):
        colours = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def describe(result: Mapping[str, Any]) -> str:
    """Format the result of a number of clients as a small table."""
    lines = [f"{result['clients']} clients{'requests/s':>23}{'p50, ms':>10}{'p99, ms':>10}{'core-ms':>10}"]
    for name, numbers in result["servers"].items():
        figures = f"{numbers['p50_ms']:10.1f}{numbers['p99_ms']:10.1f}{numbers['core_ms']:10.1f}"
        lines.append(f"  {name:20}{numbers['requests_per_second']:11.1f}{figures}")
    rounds = ", ".join(f"{ratio:.2f}" for ratio in result["ratios"])
    lines.append(f"  ratio {result['ratio']:.2f} (rounds {rounds}; goal {GOAL:g}), of core-seconds "
                 f"{result['core_ratio']:.2f}; {result['same_answers']:.0%} same answers")  # fmt: skip
    return "\n".join(lines)


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.out is not None:
        require_writable(root / options.out, option="--out")
    pictures = [path.read_bytes() for path in options.pictures] or make_pictures(32)
    results = []
    with (
        tempfile.TemporaryDirectory() as folder,
        start_servers(Path(folder), options.model, root=root, threads=options.threads) as servers,
    ):
        for num_clients in options.clients:
            found = compare_servers(
                servers, pictures, num_clients=num_clients, num_requests=options.requests, rounds=options.rounds
            )
            results.append(found)
            print(describe(found), flush=True)
    if options.out is not None:
        environment = {"torch": torch.__version__, "python": platform.python_version()}
        chosen = {name: value for name, value in vars(options).items() if name not in ("out", "pictures")}
        write_json(root / options.out, {"options": chosen, "environment": environment, "results": results})
        print(f"written: {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run it in the repository's root; see benchmarks/README.md.")
    parser.add_argument("--model", metavar="MODEL", default="classifiers/resnet9",
                        help="an experiment or a bundle (default: classifiers/resnet9)")  # fmt: skip
    parser.add_argument("--pictures", metavar="FILE", type=Path, nargs="+", default=[],
                        help="pictures to send (default: 32 generated ones of 320 x 240 pixels)")  # fmt: skip
    parser.add_argument("--clients", metavar="N", type=_positive, nargs="+", default=[1, 8, 32],
                        help="numbers of clients (default: 1 8 32)")  # fmt: skip
    parser.add_argument("--requests", metavar="N", type=_positive, default=256, help="of a turn (default: 256)")
    parser.add_argument("--rounds", metavar="N", type=_positive, default=5, help="turns of each server (default: 5)")
    parser.add_argument("--threads", metavar="N", type=_positive, default=1, help="torch threads (default: 1)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the results to this JSON file")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


if __name__ == "__main__":
    guarded(main, Path())
