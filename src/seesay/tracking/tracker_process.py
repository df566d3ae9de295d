"""The process that writes to MLflow what the stages of one pipeline execution send it; ends when the execution has.

Run as `python -m seesay.tracking.tracker_process <state folder> <pipeline key> <owner process>`.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from seesay.files import write_json
from seesay.tracking.environment import Process
from seesay.tracking.session import Session
from seesay.tracking.tracker import address_of

POLL_SECONDS = 0.5
GRACE_SECONDS = 3.0
"""How long a tracker process waits for its first stage."""
IDLE_SECONDS = 120.0
"""How long it waits for a next one; a later one starts another process."""
KEPT_SECONDS = 30 * 24 * 3600.0


class TrackerProcess:
    """Listens on this machine only, for stages that know the key in the address file (readable by its owner only)."""

    def __init__(self, folder: Path, key: str, owner: Process) -> None:
        self.folder, self.key, self.owner = folder, key, owner
        self.address = folder / f"{key}.address"
        self._open_connections = 0
        self._last_used = time.monotonic()
        self._change = threading.Lock()

    def serve(self) -> None:
        """Serves until the execution's process is gone and the last stage has been written to MLflow."""
        _forget_old_files(self.folder)
        authkey = secrets.token_bytes(32)
        listener = Listener(("127.0.0.1", 0), authkey=authkey)
        own = {"port": listener.address[1], "key": authkey.hex()}
        write_json(self.address, own)
        self.address.chmod(0o600)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        while not self._is_done():
            time.sleep(POLL_SECONDS)
        if address_of(self.address) == own:
            self.address.unlink(missing_ok=True)
        listener.close()

    def _is_done(self) -> bool:
        with self._change:
            idle = time.monotonic() - self._last_used
            if self._open_connections or idle < GRACE_SECONDS:
                return False
            return idle > IDLE_SECONDS or self.owner.is_gone

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return
            except Exception:  # a stranger without the key
                traceback.print_exc()
                continue
            with self._change:
                self._open_connections += 1
            threading.Thread(target=self._serve_stage, args=(connection,)).start()

    def _serve_stage(self, connection: Connection) -> None:
        session = Session(self.folder)
        try:
            while not session.has_ended:
                if not connection.poll(POLL_SECONDS):
                    if session.stage_is_gone:
                        break
                    continue
                message = json.loads(connection.recv_bytes())
                connection.send_bytes(json.dumps(_answer(session, message)).encode())
        except (EOFError, OSError):
            pass  # the stage is gone
        finally:
            try:
                session.abandon()
            except Exception:
                traceback.print_exc()
            connection.close()
            with self._change:
                self._open_connections -= 1
                self._last_used = time.monotonic()


def _answer(session: Session, message: dict[str, Any]) -> dict[str, Any]:
    try:
        return session.handle(message)
    except Exception as error:  # the stage says it, and goes on without MLflow
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}


def _forget_old_files(folder: Path) -> None:
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)


def main() -> None:
    folder, key, owner = sys.argv[1:]
    TrackerProcess(Path(folder), key, Process.parse(owner)).serve()


if __name__ == "__main__":
    main()
