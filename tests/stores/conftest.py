"""Servers on this machine: S3 by moto, PostgreSQL, and MLflow with basic authentication on both.

Tests are skipped where a package of the extra `stores`, or PostgreSQL, is not installed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BUCKET = "seesay-tests"
ACCESS_KEY = "AKIASEESAYTESTS00000"
S3_SECRET = "s3-s3cret-4f1c"
DATABASE_PASSWORD = "pg-s3cret-8ad2"
ADMIN_PASSWORD = "admin-s3cret-77e0"
USER_PASSWORD = "user-s3cret-c19b"
COOKIE_SECRET = "cookie-s3cret-5d3e"
SECRETS = (S3_SECRET, DATABASE_PASSWORD, ADMIN_PASSWORD, USER_PASSWORD, COOKIE_SECRET)

AWS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET, "AWS_DEFAULT_REGION": "us-east-1"}


def needs(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module, reason=f"{module}: not installed; the extra `stores` has it")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def leaks(texts: Mapping[str, bytes]) -> list[str]:
    """Return the names of the texts that contain one of the secrets."""
    return [name for name, text in texts.items() if any(secret.encode() in text for secret in SECRETS)]


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _no_credentials_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests must not use what the person who runs them has, nor run inside that person's pipeline."""
    for name in list(os.environ):
        if name.startswith(("DVC_", "MLFLOW_", "AWS_", "PG", "SEESAY_")):
            monkeypatch.delenv(name)


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server with one bucket. It accepts any key, so it cannot show that a wrong one is refused."""

    url: str
    client: Any

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return {one["Key"]: self.client.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read() for one in listed}


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectStore]:
    needs("moto.server", "boto3")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": S3_SECRET, "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket=BUCKET)
    yield ObjectStore(url, client)
    server.stop()


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's server programs, which Debian does not put on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    if not found and (on_path := shutil.which("pg_ctl")):
        found = [Path(on_path).resolve()]
    if not found:
        pytest.skip("pg_ctl: not found; PostgreSQL's server is not installed")
    return found[-1].parent


@dataclass(frozen=True)
class Postgres:
    """A database server whose only user has a password. The URIs do not hold it: clients read PGPASSWORD."""

    port: int
    programs: Path

    def uri(self, database: str) -> str:
        """Return an address that names the driver: of SQLAlchemy 2.1 on, `postgresql://` alone means psycopg 3."""
        return f"postgresql+psycopg2://seesay@127.0.0.1:{self.port}/{database}"

    def dump(self, database: str) -> bytes:
        command = [str(self.programs / "pg_dump"), "--inserts", self.uri(database).replace("+psycopg2", "")]
        environment = {**os.environ, "PGPASSWORD": DATABASE_PASSWORD}
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    needs("psycopg2")
    import psycopg2

    programs, port = postgres_programs(), free_port()
    owner: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="seesay-postgres-"))  # pytest's folders are closed to other users
    password = folder / "password"
    password.write_text(DATABASE_PASSWORD)
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if shutil.which("setpriv") is None or subprocess.run([*owner, "true"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and setpriv cannot become the user postgres")
        for path in (folder, password):
            shutil.chown(path, "postgres", "postgres")

    def call(program: str, *arguments: str) -> None:
        command = [*owner, str(programs / program), "-D", str(folder / "data"), *arguments]
        with (folder / "output").open("ab") as output:  # not a pipe: the server would hold it open
            done = subprocess.run(command, cwd=folder, stdout=output, stderr=output, check=False)
        assert done.returncode == 0, (folder / "output").read_text()

    call("initdb", "-U", "seesay", "-A", "scram-sha-256", f"--pwfile={password}", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        connection = psycopg2.connect(
            host="127.0.0.1", port=port, user="seesay", password=DATABASE_PASSWORD, dbname="postgres"
        )
        connection.autocommit = True
        for database in ("mlflow", "mlflow_auth"):
            connection.cursor().execute(f"CREATE DATABASE {database}")
        connection.close()
        yield Postgres(port, programs)
    finally:
        call("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder)


AUTHENTICATION = """
[mlflow]
default_permission = EDIT
database_uri = {uri}
admin_username = admin
auth_cache_ttl_seconds = 60
"""


@dataclass
class MlflowServer:
    """An MLflow server that can be stopped and started again; its clients need a user and a password."""

    folder: Path
    port: int
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < until, self.log.read_text()
                time.sleep(0.3)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(60)
            self.process = None


@pytest.fixture(scope="session")
def mlflow_server(
    s3: ObjectStore, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    needs("flask_wtf")
    folder, port = tmp_path_factory.mktemp("mlflow-server"), free_port()
    (folder / "auth.ini").write_text(AUTHENTICATION.format(uri=postgres.uri("mlflow_auth")))
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--app-name", "basic-auth", "--backend-store-uri", postgres.uri("mlflow")]
    command += ["--artifacts-destination", f"s3://{BUCKET}/mlflow"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "PG"))}
    environment = {
        **kept,
        **AWS,
        "MLFLOW_S3_ENDPOINT_URL": s3.url,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": COOKIE_SECRET,
        "PGPASSWORD": DATABASE_PASSWORD,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    server = MlflowServer(folder, port, command, environment)
    server.start()
    yield server
    server.stop()
