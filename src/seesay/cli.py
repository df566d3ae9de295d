"""The command line; `seesay --help` lists its commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from seesay import commands
from seesay.core.stage import guarded


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        sys.exit(0)
    if options.command == "repro":
        # What is not ours is for DVC: none of its options for repro takes a value, so their place does not matter.
        options.dvc_arguments = [_whole(one) for one in (*options.dvc_arguments, *unknown)]
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    sys.exit(guarded(_run, Path.cwd(), options))


def _whole(argument: str) -> str:
    """Return an option of DVC that seesay heeds too as a whole word; DVC also takes its beginning."""
    matching = (one for one in ("--dry", "--interactive") if len(argument) > len("--d") and one.startswith(argument))
    return next(matching, argument)


def _run(root: Path, options: argparse.Namespace) -> int:
    from seesay.check import check_repository

    without_pipeline = (completion, commands.compare, commands.gate, commands.predict, commands.score, commands.serve)
    if options.run not in without_pipeline:
        check_repository(root)
    return int(options.run(root, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="seesay", description="Run it in the repository's root.")
    parser.add_argument("--version", action="version", version=f"seesay {version('seesay')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(run: Callable[[Path, argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(run.__name__.replace("_", "-"), help=summary)
        added.set_defaults(run=run)
        return added

    def jobs(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--jobs", metavar="N", type=_positive, default=1,
                         help="run up to N independent stages side by side (default: 1)")  # fmt: skip

    sub = command(commands.check, "check params.yaml and gates.yaml for errors")
    sub.add_argument("--provenance", action="store_true",
                     help="also that clean commits in the history of HEAD made all results")  # fmt: skip
    sub = command(commands.repro, "check, `dvc repro`, `seesay sync`, and update the documents")
    jobs(sub)
    sub.add_argument("--executor", choices=("ray",), help="run stages on a Ray cluster; --jobs is its number of clones")
    sub.add_argument("--address", metavar="ADDRESS", help="of the Ray cluster (default: a local one)")
    sub.add_argument("--remote", metavar="NAME", help="the DVC remote by which machines exchange inputs and outputs")
    sub.add_argument("dvc_arguments", nargs="*", metavar="STAGE", help="stages, and options of dvc repro such as --dry")
    sub = command(commands.work, "run stages in this clone, with inputs and outputs by a DVC remote")
    sub.add_argument("stages", nargs="+", metavar="STAGE", help="an instance such as train_classifier@mlp")
    sub.add_argument("--remote", metavar="NAME", required=True, help="the DVC remote")
    sub.add_argument(
        "--result", metavar="FILE", type=Path, required=True, help="where the stages' entries of dvc.lock go"
    )
    sub = command(commands.accept, "take over what `seesay work` has made on other machines")
    sub.add_argument("results", nargs="+", metavar="FILE", type=Path, help="what --result named there")
    sub.add_argument("--remote", metavar="NAME", required=True, help="the DVC remote")
    command(commands.sync, "bring MLflow in step with DVC, and render the report again")
    sub = command(commands.ui, "serve the MLflow UI for this repository's runs")
    sub.add_argument("--port", type=_positive, default=5000, help="the port on this machine (default: 5000)")
    sub = command(commands.gate, "judge the metrics; exit status 0: passed, 1: failed, 2: the gate could not judge")
    sub.add_argument("--baseline", metavar="REF", type=_ref,
                     help="the git ref to compare with (default: as gates.yaml says)")  # fmt: skip
    sub.add_argument("--gates", metavar="FILE", type=Path, help="the rules (default: gates.yaml)")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path(".work"),
                     help="the folder for gate.json and gate.md (default: .work)")  # fmt: skip
    sub = command(commands.compare, "compare the metrics of two git refs: what moved beyond noise")
    sub.add_argument("before", metavar="REF", type=_ref, help="the git ref to compare with")
    sub.add_argument("after", metavar="REF", type=_ref, nargs="?", help="the other ref (default: the workspace)")
    sub.add_argument("--out", metavar="DIR", type=Path, default=Path(".work"),
                     help="the folder for compare.md and compare.html (default: .work)")  # fmt: skip
    command(commands.readme, "put the results in reports/ into README.md and docs/results.md")
    sub = command(commands.predict, "say what pictures show: classes by a classifier, sentences by a captioner")
    sub.add_argument("images", metavar="IMAGE", nargs="+", help="a picture, or a folder of pictures")
    sub.add_argument("--model", metavar="MODEL", action="append",
                     help="an experiment, a bundle, or models:/NAME@ALIAS (default: released ones)")  # fmt: skip
    sub.add_argument("--top", metavar="N", type=_positive, default=5, help="classes of a picture (default: 5)")
    sub.add_argument("--captions", metavar="N", type=_positive, default=1, help="captions of a picture (default: 1)")
    sub.add_argument("--json", metavar="FILE", help="also write all answers as JSON; - for the terminal")
    sub.add_argument("--csv", metavar="FILE", help="also write all answers as a table; - for the terminal")
    sub.add_argument("--explain", metavar="DIR", type=Path, help="also write pictures of where the models looked")
    sub.add_argument("--batch-size", metavar="N", type=_positive, default=32, help="pictures at a time (default: 32)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    sub = command(commands.serve, "answer pictures over HTTP, for programs and on a page")
    sub.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: 127.0.0.1, this machine)")
    sub.add_argument("--port", type=_port, default=8000, help="the port; 0 for any (default: 8000)")
    sub.add_argument("--model", metavar="MODEL", action="append",
                     help="an experiment, a bundle, or models:/NAME@ALIAS (default: released ones)")  # fmt: skip
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    sub = command(commands.bundle, "write a trained model as a folder that works without this repository")
    sub.add_argument("cell", metavar="MODEL", help="an experiment, such as classifiers/resnet9")
    sub.add_argument("--out", metavar="DIR", type=Path, help="the folder to write (default: .work/bundles/NAME)")
    sub = command(commands.export, "write a trained classifier or captioner as ONNX, checked against PyTorch")
    sub.add_argument("cell", metavar="CELL", help="an entry of classifiers or captioners in params.yaml")
    sub.add_argument("--out", metavar="PATH", type=Path,
                     help="a classifier's file or a captioner's folder (default: in .work/export)")  # fmt: skip
    sub.add_argument("--int8", action="store_true", help="quantize a classifier to 8 bits, and measure the loss")
    sub = command(commands.score, "score captions in COCO's results format: BLEU, ROUGE-L, CIDEr-D and more")
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
    sub = command(commands.learning_rates, "range test: a classifier's loss while its learning rate rises")
    sub.add_argument("cell", metavar="CELL", help="an entry of classifiers in params.yaml")
    sub.add_argument("--low", metavar="RATE", type=float, default=1e-5, help="the first rate (default: 1e-5)")
    sub.add_argument("--high", metavar="RATE", type=float, default=1.0, help="the last rate (default: 1)")
    sub.add_argument("--steps", metavar="N", type=int, default=100, help="optimizer steps (default: 100)")
    jobs(command(commands.demo, "run the whole pipeline on generated data in .work/demo"))
    sub = command(commands.workspace, "run the pipeline with params/NAME.yaml in .work/NAME")
    jobs(sub)
    sub.add_argument("name", metavar="NAME", help="params/NAME.yaml overrides sections; its gates: NAME_gates.yaml")
    sub = command(completion, "print the completion script of a shell")
    sub.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected 0 to 65535, got {value}")
    return value


def _ref(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a git ref, got an empty text")
    return text


def completion(_root: Path, options: argparse.Namespace) -> int:
    import shtab  # DVC brings it

    print(shtab.complete(_parser(), shell=options.shell))
    return 0


if __name__ == "__main__":
    main()
