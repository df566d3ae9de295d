"""The command line: what it refuses, where it writes, how it exits."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.fixtures.files import run_dvc

from seesay import commands
from seesay.captioning.networks.recurrent import LSTMCaptioner
from seesay.check import check_architectures, check_before_run, check_git, check_workspace
from seesay.cli import main
from seesay.core.errors import InputError
from seesay.core.files import file_digest
from seesay.core.paths import Paths
from seesay.core.settings import read_yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The committed results, to be judged elsewhere."""
    for name in ("params.yaml", "gates.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for name in ("metrics", "reports"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("figures"))
    return tmp_path


def gates(root: Path, *rules: str) -> None:
    (root / "gates.yaml").write_text("baseline: null\nrules:\n" + "".join(f"  - {rule}\n" for rule in rules))


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ('{metric: "evaluate_classifier/resnet9:test/top1", min: 0.1}', 0),
        ('{metric: "evaluate_classifier/resnet9:test/top1", min: 0.999}', 1),
        ('{metric: "evaluate_classifier/resnet9:test/nothing", min: 0.1}', 1),
    ],
)
def test_the_exit_status_of_gate_is_its_verdict(
    copy: Path, monkeypatch: pytest.MonkeyPatch, rule: str, status: int
) -> None:
    """The pipeline's own verdict stays as it was."""
    gates(copy, rule)
    before = (copy / "reports/gate.json").read_bytes()
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate"])
    assert ended.value.code == status
    assert json.loads((copy / ".work/gate.json").read_text())["passed"] is (status == 0)
    assert (copy / "reports/gate.json").read_bytes() == before


def test_a_baseline_that_cannot_be_read_is_no_verdict(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates(copy, '{metric: "evaluate_classifier/resnet9:test/top1", min: 0.1, max_drop: 0.1}')
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--baseline", "no-such-ref"])
    assert ended.value.code == 2


@pytest.mark.parametrize("rules", ["baseline: null\nrules: [{metric: nonsense, min: 1}]\n", "rules: [", None])
def test_rules_that_cannot_be_read_are_no_verdict(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rules: str | None
) -> None:
    (copy / "gates.yaml").unlink() if rules is None else (copy / "gates.yaml").write_text(rules)
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate"])
    assert ended.value.code == 2
    assert "gates.yaml" in capsys.readouterr().err


def test_check_accepts_what_is_committed_and_builds_every_network() -> None:
    check_architectures(check_workspace(ROOT))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: resnet9,", "name: vgg,", "classifiers.resnet9.architecture.name: got 'vgg'"),
        ("subset: tiny30", "subset: tiny31", "image_datasets.tiny30.subset: got 'tiny31': expected one of tiny10"),
        ("name: lstm,", "name: elman,", "learning.architecture.name: got 'elman'"),
        ("width: 32, latent_channels: 16", "width: 32, latent: 16", "autoencoders.conv.architecture.latent"),
        ("decoder_widths: [128, 64, 32]", "decoder_widths: [128, 64]", "residual.architecture: decoder_widths: got 2"),
        ("{patch_size: 8,", "{patch_size: 7,", "autoencoders.masked.masking.patch_size: got 7: expected a divisor of"),
        ("share: 0.25", "share: 0.001", "autoencoders.masked.masking.share: got 0.001, which hides 0 of 64 patches"),
        (
            "mobilenetv2_100",
            "mobilenet_v2",
            "weights.mobilenet_v2.architecture: got 'mobilenet_v2': expected ",
        ),
        ("mobilenetv2_100", "mobilenet_v2", "; torchvision's mobilenet_v2 is mobilenetv2_100 there"),
        ("frozen_layers: 6", "frozen_layers: 17", "frozen_layers: got 17: expected less than 17, the layers of tf_"),
        ("momentum: 0.9,", "momentum: 0.0,", "nesterov needs a momentum above 0"),
        # The name comes first: what hangs on it does not fit either.
        ("{name: ensemble}", "{name: ensembl}", "architecture.name: got 'ensembl': expected one of alexnet, "),
        ("{name: ensemble}", "{name: ensembl}", "; did you mean ensemble?"),
        ("name: pretrained,", "name: pretraned,", "; did you mean pretrained?"),
        ("subset: tiny30", "subset: tniy30", "; did you mean tiny30?"),
        ("  dataset: tiny30", "  dataset: tniy30", "image_datasets: tiny30, tiny20, tiny10_100; did you mean tiny30?"),
    ],
)
def test_check_refuses_what_could_not_run(copy: Path, old: str, new: str, says: str) -> None:
    text = (copy / "params.yaml").read_text()
    assert old in text
    (copy / "params.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError) as error:
        check_architectures(check_workspace(copy))
    assert says in str(error.value)


def test_networks_that_the_stage_has_built_are_not_built_again(copy: Path) -> None:
    path = copy / "params.yaml"
    path.write_text(path.read_text().replace("name: resnet9,", "name: vgg,"))
    (copy / "dvc.lock").write_text("md5: of another params.yaml")
    with pytest.raises(InputError):
        check_before_run(copy)
    (copy / "dvc.lock").write_text(f"md5: {file_digest(path, 'md5')}")
    check_before_run(copy)


def test_check_refuses_a_grid_captioner_on_features_without_a_grid(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LSTMCaptioner, "looks_at", "grid")
    check_architectures(check_workspace(copy))
    text = (copy / "params.yaml").read_text()
    assert "grid_size: 7" in text
    (copy / "params.yaml").write_text(text.replace("grid_size: 7", "grid_size: null"))
    with pytest.raises(InputError) as error:
        check_architectures(check_workspace(copy))
    assert str(error.value) == (
        "params.yaml: captioners.lstm_flickr8k.learning.features: got 'flickr8k_efficientnet': "
        "expected features with a grid_size: architecture lstm attends to a grid"
    )


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("evaluate_clasifier/mlp:test/top1", "no stage is called evaluate_clasifier; did you mean evaluate_classifier"),
        ("evaluate_classifier/mpl:test/top1", "no entry of classifiers is called mpl; did you mean mlp?"),
        ("evaluate_classifier/mlp:test/top_1", "no metric of evaluate_classifier is called test/top_1; did you mean t"),
        ("evaluate_classifier/mlp:foo", "no metric of evaluate_classifier is called foo; expected one of test/top1, "),
        ("report/x:y", "no stage is called report; expected one of prepare_images, train_classifier, "),
    ],
)  # fmt: skip
def test_check_refuses_a_gate_on_what_no_stage_measures(copy: Path, metric: str, says: str) -> None:
    """Otherwise the gate would fail after hours of training."""
    gates(copy, f'{{metric: "{metric}", min: 0.1}}')
    with pytest.raises(InputError) as error:
        check_workspace(copy)
    assert str(error.value).startswith(f"{copy}/gates.yaml: '{metric}': {says}")
    gates(copy, f'{{metric: "evaluate_classifier/mlp:test/top1", above: {{metric: "{metric}", by: 0.0}}}}')
    with pytest.raises(InputError, match=r"gates\.yaml: "):
        check_workspace(copy)


@pytest.mark.parametrize("command", ["check", "repro", "sync", "readme", "demo", "export mlp", "workspace demo"])
def test_outside_the_repository_it_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = f"seesay: error: {tmp_path}: no params.yaml and no dvc.yaml here; run seesay in the repository's root\n"
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert (ended.value.code, capsys.readouterr().err) == (1, expected)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    with pytest.raises(SystemExit):
        main(command.split())
    assert f"run seesay in {tmp_path}\n" in capsys.readouterr().err


def test_without_git_repro_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_git(ROOT)
    with pytest.raises(InputError, match=r"not in a git repository; run `git init`, or `dvc config core\.no_scm true`"):
        check_git(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n")
    check_git(tmp_path)


@pytest.mark.parametrize(
    ("command", "says"),
    [("", "usage: seesay"), ("--version", "seesay 0."), ("completion bash", "complete"), ("completion zsh", "compdef")],
)
def test_help_version_and_completion_need_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 0
    assert says in capsys.readouterr().out


def test_options_of_dvc_need_no_dashes_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[list[str]] = []
    monkeypatch.setattr("seesay.cli.guarded", lambda _call, _root, options: passed.append(options.dvc_arguments))
    dry = ["repro --dry report", "repro report --dry", "repro -- report --dry", "repro report --dr"]
    for command in (*dry, "repro -f -s report", "repro --int", "repro"):
        with pytest.raises(SystemExit):
            main(command.split())
    assert [sorted(arguments) for arguments in passed[:4]] == [["--dry", "report"]] * 4
    assert [sorted(arguments) for arguments in passed[4:]] == [["-f", "-s", "report"], ["--interactive"], []]
    with pytest.raises(SystemExit) as ended:
        main(["sync", "--dry"])
    assert ended.value.code == 2
    assert len(passed) == 7


def test_a_workspace_whose_name_is_a_path_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["workspace", "../x"])
    assert ended.value.code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--remote", "storage"], "storage: expected --executor ray beside --address and --remote"),
        (["--executor", "ray", "--remote", "storage", "--force"], "--force: expected no option of DVC but --dry"),
        (["--executor", "ray"], "--executor ray: expected --remote NAME"),
    ],
)
def test_options_that_do_not_go_with_an_executor_are_refused(arguments, says, monkeypatch, tmp_path):
    with pytest.raises(InputError, match=f"^{says}"):
        cli_options = []
        monkeypatch.setattr("seesay.cli.guarded", lambda run, root, options: cli_options.append(options) or 0)
        with pytest.raises(SystemExit):
            main(["repro", *arguments])
        commands._reproduce(tmp_path, cli_options[0])


@pytest.mark.parametrize("option", ["-i", "-s", "--downstream", "--force-downstream", "-fi", "-P"])
def test_options_that_do_not_go_with_jobs_are_refused(option, tmp_path):
    options = SimpleNamespace(jobs=2, executor=None, address=None, remote=None, dvc_arguments=[option])
    with pytest.raises(InputError, match=f"^{option}: expected --jobs 1"):
        commands._reproduce(tmp_path, options)


def test_a_verdict_that_cannot_be_written_is_no_verdict(copy, monkeypatch, capsys):
    monkeypatch.chdir(copy)
    (copy / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--out", "file"])
    assert ended.value.code == 2
    assert "seesay: error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("score --references gone --predictions gone --out .", "--out: HERE: is a folder; expected a file"),
        ("compare gone --out file", "--out: HERE/file/compare.md: cannot be written: Not a directory"),
        ("work train_classifier@gone --remote gone --result .", "--result: .: is a folder; expected a file"),
    ],
)
def test_where_results_cannot_be_written_no_work_is_done(command, says, monkeypatch, tmp_path, capsys):
    for name in ("params.yaml", "dvc.yaml", "file"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    error = f"seesay: error: {says.replace('HERE', str(tmp_path))}\n"
    assert (ended.value.code, capsys.readouterr().err) == (1, error)


def test_ui_of_a_server_names_its_pages_and_starts_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@server:5000/")
    monkeypatch.setattr("seesay.tracking.store.training_views", lambda store, address: [f"a view at {address}"])
    monkeypatch.setattr("seesay.commands.subprocess.run", None)
    assert commands.ui(tmp_path, SimpleNamespace(port=5000)) == 0
    assert capsys.readouterr().out == "a view at http://server:5000\n"


def test_ui_shows_the_address_of_a_store_to_no_other_user(monkeypatch, tmp_path, capsys):
    """The arguments of a process can be read by all users of a machine, its environment cannot."""
    started = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter2@localhost/mlflow")
    monkeypatch.setattr("seesay.tracking.store.training_views", lambda store, address: ["a view"])
    monkeypatch.setattr(
        "seesay.commands.subprocess.run",
        lambda command, *, env, check: started.append((command, env)) or SimpleNamespace(returncode=0),
    )
    assert commands.ui(tmp_path, SimpleNamespace(port=5000)) == 0
    ((command, environment),) = started
    assert "hunter2" not in " ".join(command) + capsys.readouterr().out
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:hunter2@localhost/mlflow"


def value_at(content: object, key: str) -> object:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def test_the_committed_lock_is_of_the_committed_metrics_and_params() -> None:
    """Results that were edited by hand, or not made by the committed parameters, are found out."""
    import hashlib

    stages = read_yaml(ROOT / "dvc.lock")["stages"]
    params = read_yaml(ROOT / "params.yaml")
    seen, changed = 0, []
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            if out["path"].startswith("metrics/") and Path(out["path"]).suffix:  # `empty` is an empty folder
                seen += 1
                assert hashlib.md5((ROOT / out["path"]).read_bytes(), usedforsecurity=False).hexdigest() == out["md5"]
        used = stage.get("params", {}).get("params.yaml", {})
        if any(value_at(params, key) != value for key, value in used.items()):
            changed.append(name)
    assert changed == []
    assert seen > 20


def test_an_empty_baseline_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--baseline "$REF"` with an unset variable must not pass for "as gates.yaml says"."""
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        main(["gate", "--baseline", ""])
    assert ended.value.code == 2
    assert "expected a git ref, got an empty text" in capsys.readouterr().err


def test_the_last_words_of_a_failed_repro_are_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("check.check_git", "commands._checked"):
        monkeypatch.setattr(f"seesay.{name}", lambda _: None)
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {report: {cmd: exit 3}}\n")
    run_dvc(tmp_path, "init", "-q", "--no-scm")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # no server: that is not the error
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["repro"])
    output, error = capfd.readouterr()
    assert ended.value.code != 0
    assert output.splitlines()[-1].startswith(("[1/1] report", "> exit 3"))
    assert error.splitlines()[-1].startswith("ERROR: failed to reproduce 'report'")


@pytest.mark.parametrize("command", ["sync", "ui"])
def test_an_mlflow_server_that_is_down_is_one_error(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([command])
    output, error = capfd.readouterr()
    assert (ended.value.code, output) == (1, "")
    (line,) = error.splitlines()
    assert line.startswith("seesay: error: ")
    assert "http://127.0.0.1:9: " in line
    assert "check MLFLOW_TRACKING_URI" in line


def test_a_part_of_the_pipeline_ends_well_without_results_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a fresh clone, results.json is in git, and the data reports that the pages show are not."""
    for name in ("check.check_git", "commands._checked"):
        monkeypatch.setattr(f"seesay.{name}", lambda _: None)

    def refresh_views(*_: object) -> None:
        raise InputError("data/reports/prepare_images/tiny30.json: no such file")

    monkeypatch.setattr("seesay.report.page.refresh_views", refresh_views)
    monkeypatch.setenv("SEESAY_TRACKING", "off")
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {evaluate: {cmd: exit 0}}\n")
    for path in (Paths(tmp_path).gate, Paths(tmp_path).results_data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    run_dvc(tmp_path, "init", "-q", "--no-scm")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["repro", "evaluate"])
    assert ended.value.code == 0
    assert "pages in reports/ were not rendered: data/reports/prepare_images/tiny30.json" in capfd.readouterr().out
