import re
import subprocess
from html.parser import HTMLParser

import pytest

from seesay.captioning.page import case_size, read_shared_cases
from seesay.core.files import read_json, write_json
from seesay.core.paths import Paths
from seesay.params.project import load_params
from seesay.report.page import refresh_views
from seesay.report.results import collect_results, write_results


class Elements(HTMLParser):
    """Every start tag with its attributes; those still open; the words."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.words.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page(rendered_once):
    return Paths(rendered_once).captions_page.read_text()


def test_the_page_opens_offline_and_links_back(page):
    elements = Elements(page)
    assert elements.open == []
    assert {tag for tag, _ in elements.found} & {"link", "iframe", "object", "embed", "base"} == set()
    assert all(attributes["src"].startswith("data:image/") for attributes in elements.of("img"))
    links = [attributes["href"] for attributes in elements.of("a")]
    pages = {"index.html", "autoencoders.html", "captions.html"}
    assert "index.html" in links
    assert all(link.startswith("#") or link in pages for link in links)
    assert [attributes for attributes in elements.of("script") if "src" in attributes] == []
    assert "url(" not in page
    assert "@import" not in page


def test_captions_references_and_alternatives_are_text(page):
    assert page.count("<script") == 1  # the page's own
    assert "&lt;script&gt;alert(" in page
    assert "a man <b>" not in page
    assert "a man &lt;b&gt;in&lt;/b&gt; a red shirt" in page


def test_every_case_shows_what_every_captioner_of_its_dataset_says(page, rendered_once):
    params, paths = load_params(rendered_once), Paths(rendered_once)
    content = read_json(paths.figures("compare_captioners") / "cases.json")
    for dataset, of_dataset in content.items():
        cells = {cell for cell, one in params.captioners.items() if one.learning.datasets[0] == dataset}
        assert of_dataset["cases"]
        for case in of_dataset["cases"]:
            assert {said["cell"] for said in case["captions"]} == cells
            assert f"image {case['image_id']}<" in page
    for kind in ("best", "worst", "random", "disagreeing"):
        assert re.search(rf"<h3[^>]*>.*?\b{kind}\b", page), kind


def test_every_picture_says_what_it_shows(page):
    alts = [attributes["alt"] for attributes in Elements(page).of("img")]
    assert all(len(alt) > 10 for alt in alts)
    looked = next(alt for alt in alts if "at each word of" in alt)
    assert "Attention entropy, bits: " in looked


def test_alternatives_come_with_their_log_probabilities(page):
    assert re.search(r'<td class="number">-4\.50</td><td class="number">[\d.]+</td><td>[^<]*\(chosen\)</td>', page)
    assert '<td class="number">-5.50</td>' in page


def test_the_page_is_small_enough_to_mail(page):
    assert len(page.encode()) < 1_900_000


def test_the_index_links_to_the_captions_and_shows_examples(page, rendered_once):
    """The examples are those of each dataset's best captioner."""
    text = Paths(rendered_once).report.read_text()
    assert 'href="captions.html"' in text
    assert len(text.encode()) < 2_000_000


def test_strips_that_do_not_fit_are_named_the_best_captioners_come_first(built_once, tmp_path):
    paths = Paths(built_once)
    name = "flickr8k"
    whole = read_shared_cases(paths, [name], max_bytes=10**9)[0]
    strips = [caption.strip for case in whole.cases for caption in case.captions if caption.strip_path]
    assert all(strips)
    assert whole.left_out == []
    none = read_shared_cases(paths, [name], max_bytes=0)[0]
    assert not any(caption.strip for case in none.cases for caption in case.captions)
    assert none.left_out == list(dict.fromkeys(caption.cell for caption in none.cases[0].captions))
    assert all(
        (paths.root / caption.strip_path).is_file()
        for case in none.cases
        for caption in case.captions
        if caption.strip_path
    )


def test_the_second_captioners_strips_wait_for_all_of_the_best_ones(full_workspace):
    _, paths = full_workspace
    path = paths.figures("compare_captioners") / "cases.json"
    content = read_json(path)
    name = next(iter(content))
    for case in content[name]["cases"]:
        case["captions"] = [case["captions"][0], {**case["captions"][0], "cell": "second"}]
    write_json(path, content)
    whole = read_shared_cases(paths, [name], max_bytes=10**9)[0]
    of_best = sum(len(case.captions[0].strip or "") for case in whole.cases)
    text = sum(case_size(case) for case in whole.cases)
    tight = read_shared_cases(paths, [name], max_bytes=text + of_best)[0]
    assert all(case.captions[0].strip for case in tight.cases if case.captions[0].strip_path)
    assert not any(case.captions[1].strip for case in tight.cases)
    assert tight.left_out == ["second"]


def test_without_a_comparison_the_page_says_so(full_workspace):
    params, paths = full_workspace
    write_results(paths.results_data, collect_results(params, paths))
    subprocess.run(["rm", "-r", str(paths.figures("compare_captioners"))], check=True)
    refresh_views(paths.root)
    assert "There is no comparison of captioners" in paths.captions_page.read_text()
