"""Passwords in the addresses of a mirror and of an MLflow server stay in the environment."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

SECRET = "s3cret-w0rd"


def test_a_password_in_every_address_is_found_nowhere(finished: Any, tmp_path: Path, file_server: Any) -> None:
    """The mirror answers, the tracking server does not; stages that fetch, train, report and sync run beside them."""
    root = finished.workspace.copy(tmp_path / "workspace").root
    content = b"weights" * 100
    digest = hashlib.sha256(content).hexdigest()
    file_server.files |= {"weights.bin": content, "SHA256SUMS": f"{digest}  weights.bin\n".encode()}
    add_weights(root / "params.yaml", "http://127.0.0.1:9/weights.bin", digest)
    environment = {
        **finished.workspace.environment,
        "MIRROR": file_server.url.replace("//", f"//someone:{SECRET}@"),
        "MLFLOW_TRACKING_URI": f"http://someone:{SECRET}@127.0.0.1:9",
    }
    del environment["SEESAY_TRACKING"]
    outputs = []
    for arguments, status in (
        (["repro", "fetch_weights@fetched"], 0),
        (["repro", "--force", "--single-item", "train_classifier@mlp", "report"], 0),
        (["sync"], 1),
    ):
        command = [finished.workspace.python / "python", "-m", "seesay.cli", *arguments]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        outputs.append(done.stdout + done.stderr)
        assert done.returncode == status, outputs[-1]
    assert file_server.requests
    assert (root / "models/weights/fetched/weights.bin").read_bytes() == content
    assert "127.0.0.1:9" in "".join(outputs)  # the server that cannot be reached is named
    assert SECRET not in "".join(outputs)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 200
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def add_weights(params: Path, url: str, digest: str) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output, yaml.default_flow_style = False, False
    content = yaml.load(params)
    content["weights"]["fetched"] = {"architecture": "mobilenetv2_100", "url": url, "checksum": f"sha256:{digest}"}
    with params.open("w") as file:
        yaml.dump(content, file)
