import itertools
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import escape

from seesay.autoencoding.page import LATENTS, MAPS, RECONSTRUCTIONS, collect_autoencoder_figures
from seesay.core.files import read_json, write_json, write_text
from seesay.core.paths import Paths
from seesay.params.project import load_params
from seesay.report.experiments_section import collect_figures
from seesay.report.gate import judge_workspace, write_verdict
from seesay.report.page import autoencoders_page, refresh_views
from seesay.report.results import collect_results, write_results
from seesay.report.runs import StageRun, kept_trainings_note, read_runs, stage_instances

PAGES = ("index.html", "autoencoders.html", "captions.html")
"""What lies beside each other, and may be linked."""


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.found, self.words, self.open, self.in_word = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.in_word = tag == "wbr"
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.in_word:
            data = self.words.pop() + data
        self.words.append(data)
        self.in_word = False


def num_shown(text, description):
    """The number of pictures and panels with this description."""
    description = escape(description)
    return text.count(f'alt="{description}"') + text.count(f"<strong>{description}.</strong>")


@pytest.fixture(scope="module")
def page(rendered_once):
    return Paths(rendered_once).report.read_text()


def test_the_page_asks_for_nothing_from_outside(page):
    for tag, attributes in Elements(page).found:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert tag != "script" or not attributes, "the page's own script, in the page"
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")) or value.partition("#")[0] in PAGES, (
                f"{tag} {name}={value[:60]}"
            )
        assert not [name for name in attributes if name.startswith("on")], attributes
    css = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in css
    assert "@import" not in css
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in Elements(page).found


def test_every_element_is_closed(page):
    assert Elements(page).open == []


def test_captions_with_markup_are_text(page):
    assert page.count("<script") == 1, "the page's own"
    assert "&lt;script&gt;alert(" in page
    assert "a man &lt;b&gt;in&lt;/b&gt; a red shirt" in page
    assert "&lt;b&gt;.JPEG" in page


def test_the_page_shows_results_verdict_figures_data_and_runs(page):
    elements = Elements(page)
    words = " ".join(" ".join(elements.words).split())
    for part in (
        "resnet9",
        "CIDEr-D",
        "resnet9",
        "lstm_flickr8k",
        "tiny30¹",
        "Failed",
        "13,476",
        "caption lengths".title()[:7],
    ):
        assert part in words, part
    assert "restored" in words
    assert "abcdef012345" in words
    assert "0123456789" in words, "the commit"
    assert "1 min 30 s" in words
    assert "Substitutes" in words
    pictures = [attributes for tag, attributes in elements.found if tag == "img"]
    assert all(attributes["alt"] for attributes in pictures)


def test_every_experiment_has_curves_and_the_best_ones_have_details(page, rendered_once):
    """The best ones are the best of each dataset."""
    params = load_params(rendered_once)
    alts = [attributes["alt"] for tag, attributes in Elements(page).found if tag == "img"]
    cells = [*params.classifiers, *params.autoencoders, *params.captioners]
    assert sum(alt.startswith("Training and validation curves") for alt in alts) == len(cells)
    datasets = {classifier.dataset for classifier in params.classifiers.values()}
    assert num_shown(page, "The most confident mistakes on test") >= len(datasets)
    captioned = {captioner.learning.datasets[0] for captioner in params.captioners.values()}
    assert page[page.index('id="changes"') :].count('alt="Test image: ') == 12  # two captioners' cases
    drawn = {autoencoder.dataset for autoencoder in params.autoencoders.values()}
    assert page.count('<figure class="chart"') == len(datasets) + len(captioned) + len(drawn)


def test_the_autoencoders_page_has_drawings_and_maps_and_opens_offline(page, rendered_once):
    """It shows what each autoencoder draws and what it looks at."""
    params, paths = load_params(rendered_once), Paths(rendered_once)
    elements = Elements(autoencoders_page(paths).read_text())
    assert not elements.open
    pictures = [attributes for tag, attributes in elements.found if tag == "img"]
    assert all(attributes["src"].startswith("data:") for attributes in pictures)
    text = autoencoders_page(paths).read_text()
    assert all(num_shown(text, name) == len(params.autoencoders) for _, name in (RECONSTRUCTIONS[0], *MAPS))
    assert num_shown(text, RECONSTRUCTIONS[1][1]) == sum(
        one.masking is not None for one in params.autoencoders.values()
    )
    images = [attributes for _, attributes in elements.found if attributes.get("role") == "img"]
    assert images
    assert all(attributes["aria-label"] for attributes in images)
    for cell in params.autoencoders:
        assert ("h2", {"id": cell}) in elements.found
        assert f'href="autoencoders.html#{cell}"' in page


def test_what_autoencoders_draw_comes_before_what_their_latents_say(built_once):
    params, paths = load_params(built_once), Paths(built_once)
    whole = collect_autoencoder_figures(params, paths, max_bytes=10**9)
    assert all(not one.left_out for one in whole)
    assert all(len(one.details) >= 1 + len(MAPS) + len(LATENTS) for one in whole)
    of_drawing = {text for _, text in RECONSTRUCTIONS}
    drawn = [picture for one in whole for picture in one.details if picture.description in of_drawing]
    tight = collect_autoencoder_figures(params, paths, max_bytes=sum(picture.size for picture in drawn))
    assert [picture for one in tight for picture in one.details] == drawn
    assert all(one.left_out[0] == MAPS[0][1] for one in tight)


def test_the_summary_comes_first_and_tables_show_what_matters(page):
    """A card for each dataset, the verdict and the changes stand before the first table, which hides some columns."""
    summary, rest = page[page.index("<main") :].split('id="classification"', 1)
    for part in ('class="card"', "Gate failed", "Since ", 'class="bars"'):
        assert part in summary, part
    assert "<table" not in summary
    first_table = rest[: rest.index("</table>")]
    heads = re.findall(r'<th scope="col" class="([^"]*)">([^<]*)</th>', first_table)
    assert ("number", "top-1, %") in heads
    assert ("number more", "macro F1, %") in heads


def test_every_link_inside_the_page_has_a_target(page):
    elements = Elements(page).found
    targets = {attributes["id"] for _, attributes in elements if "id" in attributes}
    links = {attributes["href"][1:] for _, attributes in elements if attributes.get("href", "").startswith("#")}
    assert links - targets == set()
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_no_page_names_a_folder_that_git_ignores(page, rendered_once):
    paths = Paths(rendered_once)
    for path in (paths.report, autoencoders_page(paths), paths.captions_page):
        assert not re.search(r"reports/figures|data/reports|models/|\.work/", path.read_text()), path.name


def test_the_page_is_small_enough_to_mail(page):
    assert len(page.encode()) < 2_000_000


def test_what_there_is_no_room_for_is_named_and_the_best_come_first(full_workspace):
    params, paths = full_workspace
    rows = [
        {"cell": cell, "dataset": classifier.dataset, "val/top1": 0.9 if cell == "plain_cnn" else 0.1}
        for cell, classifier in params.classifiers.items()
    ]
    results = replace(collect_results(params, paths), classification=rows)
    whole = collect_figures(params, paths, results, costs=[], max_bytes=10**9)
    classifiers = whole.experiments["classification"]
    assert all(len(cell.details) == 5 and not cell.left_out for cell in classifiers)
    assert classifiers[0].cell == "plain_cnn", "the best comes first"
    of_best = sum(picture.size for picture in classifiers[0].details)
    everything = list(itertools.chain(*whole.experiments.values()))
    shown = sum(picture.size for picture in whole.comparison)
    shown += sum(picture.size for cell in everything for picture in cell.pictures)
    shown += sum(len(example.picture or "") for cell in everything for example in cell.examples)
    tight = collect_figures(params, paths, results, costs=[], max_bytes=shown + of_best)
    by_cell = {cell.cell: cell for cell in tight.experiments["classification"]}
    assert len(by_cell["plain_cnn"].details) == 5
    assert by_cell["mlp"].left_out[0].startswith("Confusion matrix")
    assert by_cell["mlp"].details == []


def test_the_page_has_no_path_of_this_machine(page, rendered_once):
    assert str(rendered_once) not in page
    assert str(rendered_once) not in Paths(rendered_once).results.read_text()


def test_results_md_says_data_commit_hardware_and_throughput(page, rendered_once):
    text = Paths(rendered_once).results.read_text()
    assert re.search(
        r"code at commit 0123456789, on cpu, 2 threads\. All stages together took \d\.\d core-hours\.", text
    )
    assert "| 57 | 1,234 |" in text
    assert "| 10.0 | 10.0 | 30.5 |" in text, "core-minutes"


def test_the_page_shows_what_there_is_when_much_is_missing(full_workspace):
    """Records, figures, the verdict and the ledger may all be missing."""
    params, paths = full_workspace
    for folder in ("runs", "reports"):
        subprocess.run(["rm", "-r", str(paths.root / folder)], check=True)
    write_results(paths.results_data, collect_results(params, paths))
    refresh_views(paths.root)
    text = paths.report.read_text()
    assert "The gate has not judged these results yet." in text
    assert "No figures in this workspace." in text
    assert "no record" in text
    assert ">state<" not in text


def test_a_verdict_on_other_numbers_is_not_shown(full_workspace):
    params, paths = full_workspace
    write_text(paths.gates, 'baseline: null\nrules: [{metric: "evaluate_classifier/mlp:test/top1", min: 0.1}]\n')
    write_verdict(judge_workspace(paths.root), json_path=paths.gate, markdown_path=paths.verdict)
    path = paths.metrics("evaluate_classifier", "mlp")
    write_results(paths.results_data, collect_results(params, paths))
    refresh_views(paths.root)
    assert "1 of 1 checks hold" in paths.report.read_text()
    write_json(path, {**read_json(path), "test/top1": 0.05})
    refresh_views(paths.root)
    assert "The gate has not judged these results yet." in paths.report.read_text()


def test_a_damaged_run_record_only_loses_its_facts(full_workspace):
    params, paths = full_workspace
    write_text(paths.run_record("train_classifier", "mlp"), "{")
    write_json(paths.run_record("train_classifier", "plain_cnn"), {"started_ms": "soon", "tags": None})
    runs = {run.address: run for run in read_runs(params, paths)}
    assert runs["train_classifier@mlp"].started == ""
    assert runs["train_classifier@plain_cnn"].seconds is None
    assert runs["train_classifier@resnet9"].started == "2026-09-21 14:13"  # 1,790,000,000 s after 1970, in UTC


def test_trainings_at_an_earlier_commit_are_explained_once():
    old = StageRun("train_classifier", "mlp", started="2026-09-21 14:13", commit="a" * 40)
    evaluated = StageRun("evaluate_classifier", "mlp", started="2026-09-21 14:14", commit="b" * 40)
    assert kept_trainings_note([]) == ""
    assert kept_trainings_note([old]) == ""
    assert "earlier commit (aaaaaaaaaa) than the latest run (bbbbbbbbbb)" in kept_trainings_note([old, evaluated])
    assert kept_trainings_note([evaluated, StageRun("report", None, started="2026-09-22 00:00", commit="c" * 40)]) == ""


def test_every_stage_of_the_pipeline_is_listed(full_workspace):
    params, _ = full_workspace
    params = params.model_copy(update={"finetuned": {"tuned": None}})  # only the names count here
    listed = {stage for stage, _ in stage_instances(params)}
    scripts = {path.stem for path in (Path(__file__).parents[2] / "stages").glob("*.py")}
    assert listed == scripts - {"check", "prove"}, "neither makes a result"


MODULES = (
    "report.gate report.page report.readme report.results captioning.page captioning.figures.captions "
    "classification.figures.comparison classification.figures.evaluation classification.figures.ranking "
    "autoencoding.figures.reconstructions"
)


def test_reporting_needs_no_torch_and_no_mlflow():
    imports = "; ".join(f"import seesay.{name}" for name in MODULES.split())
    check = f"import sys; {imports}; assert not {{'torch', 'mlflow', 'matplotlib.pyplot'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_templates_are_part_of_the_package():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert re.search(r"seesay = \[.*report/templates/\*", text)


def test_a_drawing_is_rounded_where_it_cannot_be_seen_scales_are_not(tmp_path):
    from seesay.plotting.embed import data_uri

    path = tmp_path / "x.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><g transform="translate(100.51234 657.7) scale(0.015625)"/></svg>'
    )
    drawn = data_uri(path)
    assert drawn is not None
    assert "translate(100.51 657.7) scale(0.015625)" in drawn
