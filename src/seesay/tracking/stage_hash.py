"""`dvc.stage_hash`: the key under which DVC's run cache knows what a stage is about to compute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FALLBACK = "seesay-"
"""Begins the hash of a stage that DVC's run cache does not hold, or whose key a later DVC computes in another way."""


def compute_stage_hash(root: Path, address: str) -> str:
    """DVC's own key of a stage instance as its inputs are now; takes half a second, most of it importing DVC.

    `_get_stage_hash` is private: a test compares it with what DVC writes. Where it does not work (another DVC, a stage
    with `persist` outputs, which has no run cache), a hash of command, parameters and input digests, marked as ours.
    """
    from dvc.repo import Repo
    from dvc.stage import cache
    from dvc.stage.serialize import to_single_stage_lockfile

    with Repo(str(root)) as repo:
        stage = repo.stage.load_one(name=address)
        stage.save_deps()
        try:
            if cache._can_hash(stage):
                return str(cache._get_stage_hash(stage))
        except (AttributeError, TypeError, AssertionError):
            pass
        return fallback_hash(to_single_stage_lockfile(stage))


def hash_of_lock_entry(entry: Mapping[str, Any]) -> str:
    """The same key from a stage's entry in dvc.lock: command, parameters, input digests, output paths."""
    facts = {key: value for key, value in entry.items() if key in ("cmd", "deps", "params")}
    if "deps" in facts:
        facts["deps"] = [{k: v for k, v in dep.items() if k not in ("size", "nfiles")} for dep in facts["deps"]]
    if "outs" in entry:
        facts["outs"] = [out["path"] for out in entry["outs"]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def fallback_hash(entry: Mapping[str, Any]) -> str:
    return FALLBACK + hash_of_lock_entry(entry)
