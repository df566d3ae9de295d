"""Changes to one classifier of params.yaml, side by side on val over several seeds: see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from seesay.classification.training.experiments import train_classifiers
from seesay.compute import configure
from seesay.core.errors import InputError
from seesay.core.files import read_json, require_writable, write_json
from seesay.core.paths import Paths
from seesay.core.settings import PARAMS_FILE, read_section, validate
from seesay.core.stage import guarded
from seesay.images.packed import read_packed_images
from seesay.params.classification import Classifier
from seesay.params.training import Runtime

UNCHANGED = "unchanged"


def main(root: Path, arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.out is not None:
        require_writable(options.out, option="--out")
    key = f"classifiers.{options.classifier}"
    entry = read_section(root, key, Classifier).model_dump(mode="json", exclude_none=True)
    entry.pop("seeds", None)
    base = changed(entry, options.always)
    variants = {UNCHANGED: base} | {change: changed(base, change) for change in options.change}
    checked: dict[str, Classifier] = {
        name: validate(one, Classifier, where=f"{key} with {name}") for name, one in variants.items()
    }
    conditions = {"classifier": options.classifier, "entry": base}
    results = _read(options.out, conditions)
    paths = Paths(root)
    images = read_packed_images(paths.images(checked[UNCHANGED].dataset))
    compute = configure(read_section(root, "runtime", Runtime))
    for seed in options.seeds:  # seed by seed, so that all variants have as many when it is stopped
        for name, settings in checked.items():
            of_variant = results["variants"].setdefault(name, {})
            if str(seed) in of_variant:
                continue
            trained = train_classifiers(
                options.classifier, settings, images, paths, seed=seed, compute=compute, log=_discard, resume=None
            )
            metrics = trained.checkpoints[0].metrics
            of_variant[str(seed)] = {
                "val_top1": metrics["val/top1"],
                "val_loss": metrics["val/loss"],
                "train_top1": metrics["train/top1"],
                "epochs": metrics["num_epochs"],
                "core_minutes": trained.core_seconds[0] / 60.0,
            }
            print(f"{name}, seed {seed}: {of_variant[str(seed)]}", flush=True)
            if options.out is not None:
                options.out.parent.mkdir(parents=True, exist_ok=True)
                write_json(options.out, results)
    print("\n".join(table({name: results["variants"][name] for name in checked})))


def changed(entry: Mapping[str, Any], changes: str) -> dict[str, Any]:
    """Return `entry` with `changes`, assignments such as `architecture.dirac=true` with commas between them.

    Values are YAML without commas; `null` takes a key away. Raises `InputError` for what is no assignment.
    """
    result: dict[str, Any] = json.loads(json.dumps(entry))
    for assignment in filter(None, changes.split(",")):
        key, equals, text = assignment.partition("=")
        if not key or not equals:
            raise InputError(f"{assignment}: expected an assignment, such as training.epochs=8")
        *parents, last = key.split(".")
        section = result
        for parent in parents:
            section = section.setdefault(parent, {})  # what is off is absent here
            if not isinstance(section, dict):
                raise InputError(f"{assignment}: {parent} has no keys")
        try:
            value = YAML(typ="safe").load(text)
        except MarkedYAMLError as error:
            raise InputError(f"{assignment}: expected a value in YAML: {error.problem}") from None
        if value is None:
            section.pop(last, None)
        else:
            section[last] = value
    return result


def table(variants: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return a Markdown table: of each variant the mean over its seeds, and the paired difference to `UNCHANGED`."""
    lines = [
        "| change | seeds | epochs | val top-1, % | difference | val loss | train top-1, % | core-min |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, of_seeds in variants.items():
        runs = list(of_seeds.values())
        differences = [
            100.0 * (run["val_top1"] - variants[UNCHANGED][seed]["val_top1"]) for seed, run in of_seeds.items()
        ]
        shown = "–" if name == UNCHANGED else with_spread(differences, sign="+")
        top1 = with_spread([100.0 * run["val_top1"] for run in runs])
        loss, train, minutes = (mean(run[key] for run in runs) for key in ("val_loss", "train_top1", "core_minutes"))
        lines.append(
            f"| {name} | {len(runs)} | {runs[0]['epochs']:.0f} | {top1} | {shown} | {loss:.3f} | {100.0 * train:.1f} "
            f"| {minutes:.1f} |"
        )
    return lines


def with_spread(values: Sequence[float], sign: str = "") -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):{sign}.1f}{spread}"


def _read(out: Path | None, conditions: dict[str, Any]) -> dict[str, Any]:
    """Read the results of an interrupted run; raise `InputError` if they are of another entry."""
    if out is None or not out.exists():
        return {"conditions": conditions, "variants": {}}
    results: dict[str, Any] = read_json(out)
    if results["conditions"] != conditions:
        raise InputError(f"{out}: has results of another entry of {PARAMS_FILE}; give another file or remove it")
    return results


def _discard(metrics: dict[str, float], *, step: int) -> None:
    """Log nothing."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classifier", help="an entry of `classifiers` whose dataset is prepared")
    parser.add_argument("--always", default="", metavar="CHANGES", help="for all variants, such as training.epochs=8")
    parser.add_argument("--change", action="append", default=[], metavar="CHANGES", help="a variant; may be repeated")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="JSON; with it, a stopped run goes on where it was")
    return parser


if __name__ == "__main__":
    guarded(main, Path())
