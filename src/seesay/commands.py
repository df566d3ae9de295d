"""The commands of `seesay`, one function each, from parsed options to an exit status."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seesay.core.errors import InputError, redact
from seesay.core.files import require_own_directory, require_writable, write_json
from seesay.core.paths import Paths, checked_name

if TYPE_CHECKING:
    from seesay.console import Progress
    from seesay.params.project import Params


def check(root: Path, options: argparse.Namespace) -> int:
    params = _checked(root, before_run=False)
    if options.provenance:
        from seesay.report.runs import check_provenance

        print(check_provenance(root, params))
    print(f"params.yaml and gates.yaml are sound: {len(params.classifiers)} classifiers, "
          f"{len(params.autoencoders)} autoencoders, {len(params.captioners)} captioners")  # fmt: skip
    return 0


def repro(root: Path, options: argparse.Namespace) -> int:
    from seesay.check import check_git
    from seesay.tracking.ledger import own_ledger

    check_git(root)
    _checked(root)
    with own_ledger(root):
        progress = _reproduce(root, options)
        if "--dry" in options.dvc_arguments:
            return progress.status
        try:
            _sync_or_warn(root, quiet=progress.status != 0)
        except InputError as error:  # of a part of the pipeline in a fresh clone, where other parts have no results
            if progress.status == 0:
                print(f"the pages in reports/ were not rendered: {error}")
            return progress.status
    if progress.status == 0:
        from seesay.report.readme import has_documents, update_documents

        if has_documents(root):
            update_documents(root)
    return progress.status


def _reproduce(root: Path, options: argparse.Namespace) -> Progress:
    from seesay.console import run_dvc
    from seesay.jobs import SIDE_BY_SIDE, run_side_by_side

    if options.executor is None and (given := options.address or options.remote):
        raise InputError(f"{given}: expected --executor ray beside --address and --remote")
    is_dry = "--dry" in options.dvc_arguments  # nothing to hand out
    if options.jobs == 1 and (options.executor is None or is_dry):
        return run_dvc(root, options.dvc_arguments, brief=False)
    stages = [one for one in options.dvc_arguments if not one.startswith("-")]
    flags = [one for one in options.dvc_arguments if one.startswith("-")]
    if options.executor and not is_dry:
        if flags:
            raise InputError(
                f"{min(flags)}: expected no option of DVC but --dry with --executor, since workers take none"
            )
        return _run_on_ray(root, stages, options)
    if others := set(flags) - SIDE_BY_SIDE:
        raise InputError(
            f"{min(others)}: expected --jobs 1 with this option of DVC, for stages side by side cannot heed it"
        )
    return run_side_by_side(root, stages, flags, num_jobs=options.jobs)


def _run_on_ray(root: Path, stages: list[str], options: argparse.Namespace) -> Progress:
    from seesay.cluster import Dispatcher, clone_source, commit_for_workers, ray_workers
    from seesay.core.settings import read_section
    from seesay.jobs import run_side_by_side
    from seesay.params.training import Runtime

    if not options.remote:
        raise InputError("--executor ray: expected --remote NAME, the DVC remote that all machines reach")
    commit = commit_for_workers(root)
    dispatcher = Dispatcher(root, remote=options.remote)
    machines = ray_workers(
        options.address,
        url=clone_source(root),
        commit=commit,
        remote=options.remote,
        num_workers=options.jobs if options.jobs > 1 else None,
        runtime=read_section(root, "runtime", Runtime),
    )
    return run_side_by_side(root, stages, [], num_jobs=1, dispatcher=dispatcher, machines=machines)


def work(root: Path, options: argparse.Namespace) -> int:
    from seesay.cluster import work

    require_writable(options.result, option="--result")
    write_json(options.result, {stage: work(root, stage, remote=options.remote) for stage in options.stages})
    return 0


def accept(root: Path, options: argparse.Namespace) -> int:
    from seesay.cluster import accept_all
    from seesay.core.files import read_json
    from seesay.core.settings import validate

    entries: dict[str, dict[str, Any]] = {}
    for file in options.results:
        entries |= validate(read_json(file), dict[str, dict[str, Any]], where=str(file))
    for stage in accept_all(root, entries, remote=options.remote):
        print(f"{stage}: accepted", flush=True)
    return 0


def sync(root: Path, _options: argparse.Namespace) -> int:
    if problem := _sync(root):
        raise InputError(problem)
    return 0


def ui(root: Path, options: argparse.Namespace) -> int:
    from seesay.console import exit_status
    from seesay.tracking.store import describe_problem, locate_store, training_views

    store, port = locate_store(root), str(options.port)
    try:
        is_remote = store.uri.startswith(("http:", "https:"))  # that server has a UI of its own
        views = training_views(store, redact(store.uri).rstrip("/") if is_remote else f"http://127.0.0.1:{port}")
    except Exception as error:  # MLflow raises many types
        raise InputError(describe_problem(store, error)) from None
    print("\n".join(views) or "no runs yet", flush=True)
    if is_remote:
        return 0
    command = [sys.executable, "-m", "mlflow", "ui", "--port", port]
    # Not as an argument, which other users of the machine see: it may have a password.
    done = subprocess.run(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": store.uri}, check=False)
    return exit_status(done.returncode)


def gate(root: Path, options: argparse.Namespace) -> int:
    from seesay.report.gate import judge_workspace, write_verdict

    folder = root / options.out
    try:
        require_writable(folder / "gate.json", option="--out")
        verdict = judge_workspace(root, gates=options.gates, baseline=options.baseline)
        write_verdict(verdict, json_path=folder / "gate.json", markdown_path=folder / "gate.md")
    except (InputError, OSError) as error:  # status 1 means a worse model, which this is not
        for line in str(error).splitlines():
            print(f"seesay: error: {line}", file=sys.stderr)
        return 2
    print(f"{verdict.summary()} ({options.out / 'gate.md'})")
    return verdict.exit_code


def compare(root: Path, options: argparse.Namespace) -> int:
    from seesay.report.compare import compare_refs, comparison_markdown
    from seesay.report.page import write_comparison

    require_writable(root / options.out / "compare.md", option="--out")
    comparison = compare_refs(root, options.before, options.after)
    write_comparison(comparison, root / options.out)
    print(comparison_markdown(comparison))
    print(f"({options.out / 'compare.md'}, {options.out / 'compare.html'})")
    return 0


def readme(root: Path, _options: argparse.Namespace) -> int:
    from seesay.report.readme import update_documents

    print("\n".join(f"updated: {name}" for name in update_documents(root)) or "the documents are current")
    return 0


def predict(root: Path, options: argparse.Namespace) -> int:
    from seesay.serving.command import predict

    return predict(root, options)


def serve(root: Path, options: argparse.Namespace) -> int:
    from seesay.serving.command import load_speakers
    from seesay.serving.server import Limits, bind, build_server, create_app, run_server, warm_up

    with bind(options.host, options.port) as listener:  # first: an address in use is known at once
        models = load_speakers(root, options.model, device=options.device)
        limits = Limits()
        server = build_server(create_app(models, limits))
        warm_up(models, limits)
        listener.listen()  # who comes from now on is answered
        host, port = options.host, listener.getsockname()[1]
        print(f"{', '.join(model.name for model in models)} at http://{f'[{host}]' if ':' in host else host}:{port} "
              "(stop it with Ctrl-C)", flush=True)  # fmt: skip
        run_server(server, listener)
    return 0


def bundle(root: Path, options: argparse.Namespace) -> int:
    from seesay.serving.bundle import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, model_card, write_bundle
    from seesay.serving.gather import find_cell, gather_bundle, training_run

    section, cell = find_cell(root, options.cell)
    folder = options.out or Path(".work/bundles") / cell
    require_own_directory(root / folder, {CARD_FILE, CONFIG_FILE, WEIGHTS_FILE})
    made = gather_bundle(root, section, cell, run=training_run(root, section, cell))
    write_bundle(root / folder, made, model_card(made.config))
    print(f"{section}/{cell}: {folder}")
    return 0


def export(root: Path, options: argparse.Namespace) -> int:
    from seesay.core.settings import read_yaml

    section, _, name = options.cell.rpartition("/")
    captioners = read_yaml(Paths(root).params).get("captioners") or {}
    if section == "captioners" or (not section and name in captioners):
        return _export_captioner(root, name, options)
    return _export_classifier(root, name, options)


def _export_classifier(root: Path, cell: str, options: argparse.Namespace) -> int:
    from seesay.classification.export import TOLERANCE, export_classifier

    done = export_classifier(root, cell, out=options.out, int8=options.int8)
    comparison, side = done.comparison, done.image_size
    print(f"{cell}: {os.path.relpath(done.path, root)} ({done.num_bytes / 1e6:.1f} MB)")
    print(f"takes:   images, float32 (batch, 3, {side}, {side}), RGB in [0, 1]; the normalisation is inside")
    print(f"gives:   logits, float32 (batch, {done.num_classes}); the classes' names are in the file's metadata")
    print(f"checked: all {comparison.num_images} test images of {done.dataset} get the same class as from PyTorch; "
          f"logits differ by {comparison.max_difference:.1e} at most (allowed: {TOLERANCE:g})")  # fmt: skip
    if (loss := done.loss) is not None:
        print(f"int8:    top-1 {loss.int8:.2%} in place of {loss.float32:.2%} in float32, on the same images; "
              f"{loss.same_class:.2%} of them get the same class")  # fmt: skip
    return 0


def _export_captioner(root: Path, cell: str, options: argparse.Namespace) -> int:
    from seesay.serving.onnx_captioner import ENCODER_FILE, STEP_FILE, TOLERANCE, export_captioner

    if options.int8:
        raise InputError(f"--int8: {cell} is a captioner; expected a classifier")
    if options.out is not None:
        require_own_directory(root / options.out, {ENCODER_FILE, STEP_FILE})
    done = export_captioner(root, cell, out=options.out)
    print(f"{cell}: {os.path.relpath(done.folder, root)} ({done.num_bytes / 1e6:.1f} MB)")
    print(f"{ENCODER_FILE}: images, float32 (n, 3, S, S), RGB in [0, 1], to memory and state")
    print(f"{STEP_FILE}:    tokens (n, beams), states and memories to logits and states; words are in its metadata")
    print(f"checked: all {done.num_images} test images get the same caption as from PyTorch; "
          f"log-probabilities differ by {done.max_difference:.1e} at most (allowed: {TOLERANCE:g})")  # fmt: skip
    return 0


def score(root: Path, options: argparse.Namespace) -> int:
    from seesay.captioning.metrics.java import why_no_meteor
    from seesay.captioning.score_files import score_files

    if options.out is not None:
        require_writable(root / options.out, option="--out")
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


def demo(root: Path, options: argparse.Namespace) -> int:
    return workspace(root, argparse.Namespace(name="demo", jobs=options.jobs))


def workspace(root: Path, options: argparse.Namespace) -> int:
    from seesay.console import earlier_results, moved_scores, run_dvc, score_table
    from seesay.jobs import run_side_by_side
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
        if options.jobs > 1:
            progress = run_side_by_side(folder, [], [], num_jobs=options.jobs, rewrite=edited)
        else:
            progress = run_dvc(folder, [], brief=True, rewrite=edited)
        _sync_or_warn(folder, quiet=progress.status != 0)
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


def _checked(root: Path, *, before_run: bool = True) -> Params:
    """Return the checked parameters; user-supplied files that have changed since they were fetched are noted."""
    from seesay.check import check_architectures, check_before_run, check_workspace
    from seesay.console import changed_sources

    if before_run:
        params = check_before_run(root)
    else:
        check_architectures(params := check_workspace(root))
    for note in changed_sources(params, root):
        print(f"seesay: note: {note}", file=sys.stderr)
    return params


def _sync_or_warn(root: Path, *, quiet: bool) -> None:
    """Update MLflow after `dvc repro`, whose results hold without it; if `quiet`, print nothing."""
    problem = _sync(root, quiet=quiet)
    if problem and not quiet:
        print(f"seesay: warning: {problem}", file=sys.stderr)


def _sync(root: Path, *, quiet: bool = False) -> str | None:
    """Update MLflow, unless it is switched off, and render the page again if MLflow or the gate has changed.

    Return the problem if MLflow could not be reached. If `quiet`, nothing is printed: the last words of a failed
    `dvc repro` are its error.
    """
    from seesay.report.page import refresh_views

    paths, ledger, changed, problem = Paths(root), None, False, None
    if os.environ.get("SEESAY_TRACKING") == "off":
        if not quiet:
            print("SEESAY_TRACKING=off: MLflow is left as it is")
    else:
        from seesay.tracking.sync import sync as sync_with_store

        report = sync_with_store(root)
        if report.problem is not None:
            problem = str(report)
        elif not quiet:
            print(report)
        ledger, changed = report.lines or None, report.changed
    if paths.results_data.is_file() and (changed or _is_older(paths.report, paths.gate)):
        refresh_views(root, ledger)
    return problem


def _is_older(view: Path, source: Path) -> bool:
    """Return whether a view is missing or was rendered before `source` was written."""
    return not view.is_file() or (source.is_file() and view.stat().st_mtime < source.stat().st_mtime)
