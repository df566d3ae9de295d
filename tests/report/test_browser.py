"""The pages in a browser, where there is Chromium and npm can install axe-core."""

import pytest
from tests.report.browser_checks import check_pages, find_chromium, install_axe, problems

from seesay.core.paths import Paths
from seesay.report.compare import compare_metrics
from seesay.report.page import autoencoders_page, write_comparison


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("no Chromium")
    return install_axe(tmp_path_factory.mktemp("axe")) or pytest.skip("npm cannot install axe-core")


@pytest.fixture(scope="module")
def pages(rendered_once, tmp_path_factory):
    paths = Paths(rendered_once)
    old = {"evaluate_classifier/mlp": {"test/top1": 0.2, "test/top1_low": 0.19, "test/top1_high": 0.21, "test/ece": 1}}
    new = {"evaluate_classifier/mlp": {"test/top1": 0.3, "test/top1_low": 0.29, "test/top1_high": 0.31, "test/ece": 2}}
    comparison = compare_metrics(old, new, before="main (0123456789)", after="workspace")
    _, compared = write_comparison(comparison, tmp_path_factory.mktemp("compared"))
    return [paths.report, autoencoders_page(paths), paths.captions_page, compared]


@pytest.mark.parametrize("is_dark", [False, True])
def test_pages_have_no_serious_fault_and_fit_at_any_width(axe, pages, is_dark):
    """axe-core finds no serious fault, such as too little contrast, and no page is wider than its window."""
    results = check_pages(find_chromium(), axe, pages, is_dark=is_dark)
    assert problems(results, num_pages=len(pages), is_dark=is_dark) == []


def test_the_checks_find_too_little_contrast_and_a_page_that_is_too_wide(axe, tmp_path):
    page = tmp_path / "faulty.html"
    page.write_text(
        '<!DOCTYPE html><html lang="en"><head><title>x</title></head>'
        '<body><main style="width:1400px"><p style="color:#ccc;background:#fff">faint</p></main></body></html>'
    )
    found = "\n".join(problems(check_pages(find_chromium(), axe, [page], is_dark=False), num_pages=1, is_dark=False))
    assert "color-contrast" in found
    assert "faulty.html at 390 px, light: 1" in found
    assert "at 2000 px, light: 1" not in found
