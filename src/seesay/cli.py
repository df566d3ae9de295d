"""The command line; `seesay --help` lists its commands."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from seesay.core.errors import InputError
from seesay.core.files import write_json
from seesay.core.paths import Paths, checked_name
from seesay.core.stage import guarded

if TYPE_CHECKING:
    from seesay.params.project import Params


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        sys.exit(0)
    if options.command == "repro":
        # What is not ours is for DVC: none of its options for repro takes a value, so their place does not matter.
        options.dvc_arguments += unknown
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    sys.exit(guarded(_run, Path.cwd(), options))


def _run(root: Path, options: argparse.Namespace) -> int:
    from seesay.check import check_repository

    if options.run not in (completion, gate, score):  # these need no pipeline
        check_repository(root)
    return int(options.run(root, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seesay", description="Run it in the repository's root.")
    parser.add_argument("--version", action="version", version=f"seesay {version('seesay')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(run: Callable[[Path, argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__.replace("_", "-"), help=summary)
        added.set_defaults(run=run)
        return added

    command(check, "check params.yaml and gates.yaml for errors")
    sub = command(repro, "check, `dvc repro`, `seesay sync`, and update the documents")
    sub.add_argument("dvc_arguments", nargs="*", metavar="STAGE", help="stages, and options of dvc repro such as --dry")
    command(sync, "bring MLflow in step with DVC, and render the report again")
    sub = command(ui, "serve the MLflow UI for this repository's runs")
    sub.add_argument("--port", type=_positive, default=5000, help="the port on this machine (default: 5000)")
    sub = command(gate, "judge the metrics; exit status 0: passed, 1: failed, 2: the gate could not judge")
    sub.add_argument("--baseline", metavar="REF", type=_ref,
                     help="the git ref to compare with (default: as gates.yaml says)")  # fmt: skip
    sub.add_argument("--gates", metavar="FILE", type=Path, help="the rules (default: gates.yaml)")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path(".work"),
                     help="the folder for gate.json and gate.md (default: .work)")  # fmt: skip
    command(readme, "put the results in reports/ into README.md and docs/results.md")
    sub = command(export, "write a trained classifier as ONNX, checked against PyTorch")
    sub.add_argument("cell", metavar="CELL", help="an entry of classifiers in params.yaml")
    sub.add_argument("--out", metavar="FILE.onnx", type=Path,
                     help="the file to write (default: .work/export/CELL.onnx)")  # fmt: skip
    sub = command(score, "score captions in COCO's results format: BLEU, ROUGE-L, CIDEr-D and more")
    sub.add_argument("--references", metavar="REFS.json", type=Path, required=True, help="as in COCO's captions_*.json")
    sub.add_argument("--predictions", metavar="RESULTS.json", type=Path, required=True, help="a caption per image")
    sub.add_argument("--images", choices=("all", "predicted"), default="all",
                     help="images of REFS.json to score: all, or those predicted (default: all)")  # fmt: skip
    sub.add_argument("--out", metavar="FILE.json", type=Path, help="also write the scores as JSON")
    sub.add_argument("--resamples", metavar="N", type=_positive,
                     help="also 95 %% bootstrap intervals, from N resamples of the images")  # fmt: skip
    sub.add_argument("--meteor", action="store_true", help="also METEOR, if Java and pycocoevalcap are installed")
    sub.add_argument("--spice-dir", metavar="DIR", type=Path,
                     help="also SPICE, from its jar and models in DIR (default: $SEESAY_SPICE_DIR)")  # fmt: skip
    sub = command(learning_rates, "range test: a classifier's loss while its learning rate rises")
    sub.add_argument("cell", metavar="CELL", help="an entry of classifiers in params.yaml")
    sub.add_argument("--low", metavar="RATE", type=float, default=1e-5, help="the first rate (default: 1e-5)")
    sub.add_argument("--high", metavar="RATE", type=float, default=1.0, help="the last rate (default: 1)")
    sub.add_argument("--steps", metavar="N", type=int, default=100, help="optimizer steps (default: 100)")
    command(demo, "run the whole pipeline on generated data in .work/demo")
    sub = command(workspace, "run the pipeline with params/NAME.yaml in .work/NAME")
    sub.add_argument("name", metavar="NAME", help="params/NAME.yaml overrides sections; its gates: NAME_gates.yaml")
    sub = command(completion, "print the completion script of a shell")
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _ref(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a git ref, got an empty text")
    return text


def check(root: Path, _options: argparse.Namespace) -> int:
    params = _checked(root)
    print(f"params.yaml and gates.yaml are sound: {len(params.classifiers)} classifiers, "
          f"{len(params.autoencoders)} autoencoders, {len(params.captioners)} captioners")  # fmt: skip
    return 0


def repro(root: Path, options: argparse.Namespace) -> int:
    from seesay.check import check_git
    from seesay.console import run_dvc
    from seesay.tracking.ledger import own_ledger

    check_git(root)
    _checked(root)
    with own_ledger(root):
        progress = run_dvc(root, options.dvc_arguments, brief=False)
        if "--dry" in options.dvc_arguments:
            return progress.status
        try:
            _sync(root, quiet=progress.status != 0)
        except InputError as error:  # of a part of the pipeline in a fresh clone, where other parts have no results
            if progress.status == 0:
                print(f"the pages in reports/ were not rendered: {error}")
            return progress.status
    if progress.status == 0:
        from seesay.report.readme import has_documents, update_documents

        if has_documents(root):
            update_documents(root)
    return progress.status


def sync(root: Path, _options: argparse.Namespace) -> int:
    _sync(root)
    return 0


def ui(root: Path, options: argparse.Namespace) -> int:
    from seesay.tracking.store import locate_store, training_views

    store, port = locate_store(root), str(options.port)
    print("\n".join(training_views(store, f"http://127.0.0.1:{port}")) or "no runs yet", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--port", port]
    return subprocess.run(command, check=False).returncode


def gate(root: Path, options: argparse.Namespace) -> int:
    from seesay.report.gate import judge_workspace, write_verdict

    try:
        verdict = judge_workspace(root, gates=options.gates, baseline=options.baseline)
    except InputError as error:  # status 1 means a worse model, which this is not
        for line in str(error).splitlines():
            print(f"seesay: error: {line}", file=sys.stderr)
        return 2
    folder = root / options.out
    write_verdict(verdict, json_path=folder / "gate.json", markdown_path=folder / "gate.md")
    print(f"{verdict.summary()} ({options.out / 'gate.md'})")
    return verdict.exit_code


def readme(root: Path, _options: argparse.Namespace) -> int:
    from seesay.report.readme import update_documents

    print("\n".join(f"updated: {name}" for name in update_documents(root)) or "the documents are current")
    return 0


def export(root: Path, options: argparse.Namespace) -> int:
    from seesay.classification.export import TOLERANCE, export_classifier

    done = export_classifier(root, options.cell, out=options.out)
    comparison, side = done.comparison, done.image_size
    print(f"{options.cell}: {os.path.relpath(done.path, root)} ({done.num_bytes / 1e6:.1f} MB)")
    print(f"takes:   images, float32 (batch, 3, {side}, {side}), RGB in [0, 1]; the normalisation is inside")
    print(f"gives:   logits, float32 (batch, {done.num_classes}); the classes' names are in the file's metadata")
    print(f"checked: all {comparison.num_images} test images of {done.dataset} get the same class as from PyTorch; "
          f"logits differ by {comparison.max_difference:.1e} at most (allowed: {TOLERANCE:g})")  # fmt: skip
    return 0


def score(root: Path, options: argparse.Namespace) -> int:
    from seesay.captioning.metrics.java import why_no_meteor
    from seesay.captioning.score_files import score_files

    supplied = os.environ.get("SEESAY_SPICE_DIR")
    if options.meteor and (note := why_no_meteor()):
        print(note, file=sys.stderr)
    done = score_files(
        options.references,
        options.predictions,
        resamples=options.resamples,
        seed=0,
        with_meteor=options.meteor,
        spice_dir=options.spice_dir or (Path(supplied) if supplied else None),
        only_predicted=options.images == "predicted",
    )
    print(done.table())
    if options.out is not None:
        write_json(root / options.out, done.to_json())
        print(f"written: {options.out}")
    return 0


def learning_rates(root: Path, options: argparse.Namespace) -> int:
    from seesay.classification.figures.rate_range import report_rate_range
    from seesay.classification.rate_range import run_range_test

    test = run_range_test(root, options.cell, low=options.low, high=options.high, num_steps=options.steps)
    print(report_rate_range(Paths(root), options.cell, test))
    return 0


def demo(root: Path, _options: argparse.Namespace) -> int:
    return workspace(root, argparse.Namespace(name="demo"))


def workspace(root: Path, options: argparse.Namespace) -> int:
    from seesay.console import earlier_results, moved_scores, run_dvc, score_table
    from seesay.report.gate import read_verdict
    from seesay.report.results import read_results
    from seesay.tracking.ledger import own_ledger
    from seesay.workspace import commit_first_results, name_sources, prepare_workspace

    started, name = time.monotonic(), options.name
    folder = root / ".work" / checked_name(name)
    overrides, gates = (root / "params" / f"{name}{ending}.yaml" for ending in ("", "_gates"))
    for path in (overrides, gates):
        if not path.is_file():
            raise InputError(f"{path}: no such file: expected the overrides of workspace {name!r} and its gates")
    paths = Paths(folder)
    edited = partial(name_sources, main=root, overrides=overrides, gates=gates)
    with own_ledger(folder):
        before = earlier_results(paths)
        prepare_workspace(root, folder, overrides=overrides, gates=gates)
        try:
            _checked(folder)
        except InputError as error:
            raise InputError(edited(str(error))) from None
        progress = run_dvc(folder, [], brief=True, rewrite=edited)
        _sync(folder, quiet=progress.status != 0)
    if progress.status != 0:
        return progress.status
    commit_first_results(folder)
    print(f"\n{score_table(read_results(paths.results_data))}")
    if before is not None and (moved := moved_scores(before, read_results(paths.results_data))):
        print(moved)
    verdict = read_verdict(paths)
    outcome = "not judged" if verdict is None else "passed" if verdict["passed"] else "FAILED"
    print(f"\n{progress.num_run} stages run in {time.monotonic() - started:.0f} s")
    print(f"report:  {paths.report.relative_to(root)}")
    print(f"gate:    {outcome} ({paths.verdict.relative_to(root)})")
    print("MLflow:  make ui")
    return 0


def completion(_root: Path, options: argparse.Namespace) -> int:
    import shtab  # DVC brings it

    print(shtab.complete(_parser(), shell=options.shell))
    return 0


def _checked(root: Path) -> Params:
    """Return the checked parameters; user-supplied files that have changed since they were fetched are noted."""
    from seesay.check import check_architectures, check_workspace
    from seesay.console import changed_sources

    params = check_workspace(root)
    check_architectures(params)
    for note in changed_sources(params, root):
        print(f"seesay: note: {note}", file=sys.stderr)
    return params


def _sync(root: Path, *, quiet: bool = False) -> None:
    """Update MLflow, unless it is switched off, and render the page again if MLflow or the gate has changed.

    If `quiet`, only a problem is printed: the last words of a failed `dvc repro` are its error.
    """
    from seesay.report.page import refresh_views

    paths, ledger, changed = Paths(root), None, False
    if os.environ.get("SEESAY_TRACKING") == "off":
        if not quiet:
            print("SEESAY_TRACKING=off: MLflow is left as it is")
    else:
        from seesay.tracking.sync import sync as sync_with_store

        report = sync_with_store(root)
        if not quiet or report.problem is not None:
            print(report)
        ledger, changed = report.lines or None, report.changed
    if paths.results_data.is_file() and (changed or _is_older(paths.report, paths.gate)):
        refresh_views(root, ledger)


def _is_older(view: Path, source: Path) -> bool:
    """Return whether a view is missing or was rendered before `source` was written."""
    return not view.is_file() or (source.is_file() and view.stat().st_mtime < source.stat().st_mtime)


if __name__ == "__main__":
    main()
