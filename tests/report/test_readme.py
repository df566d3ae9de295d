import pytest

from seesay.core.errors import InputError
from seesay.core.files import write_text
from seesay.report.readme import has_documents, outdated_documents, update_documents
from seesay.report.results import Results, write_results

TABLES = "# Results\n\nA note.\n\n## Data\n\n| a |\n| --- |\n| 1 |\n"
DRAWN = {
    "cell": "pca",
    "dataset": "drawings",
    "architecture": "pca",
    "substitutes": [],
    "test/psnr": 20.0,
    "test/psnr_low": 19.5,
    "test/psnr_high": 20.5,
    "test/mean_image_psnr": 10.0,
}


@pytest.fixture
def root(tmp_path):
    write_text(tmp_path / "README.md", "# Title\n\n<!-- headlines:begin -->\n<!-- headlines:end -->\n\nThe end.\n")
    write_text(tmp_path / "docs/results.md", "# All\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nThe end.\n")
    write_text(tmp_path / "reports/results.md", TABLES)
    write_results(tmp_path / "reports/results.json", Results([], [DRAWN], [], []))
    return tmp_path


def test_all_tables_go_into_docs_one_level_deeper(root):
    assert update_documents(root) == ["README.md", "docs/results.md"]
    assert (root / "docs/results.md").read_text() == (
        "# All\n\n<!-- results:begin -->\n\n"
        "A note.\n\n### Data\n\n| a |\n| --- |\n| 1 |\n\n"
        "<!-- results:end -->\n\nThe end.\n"
    )


def test_headlines_go_into_the_readme(root):
    update_documents(root)
    text = (root / "README.md").read_text()
    assert "| drawings | pca | 20.00 (19.50 to 20.50) | 20.00 | 10.00 | `dvc repro evaluate_autoencoder@pca` |" in text
    assert text.startswith("# Title\n\n<!-- headlines:begin -->\n\n**Autoencoders.**")
    assert text.endswith("<!-- headlines:end -->\n\nThe end.\n")


def test_a_second_update_changes_nothing(root):
    update_documents(root)
    before = (root / "docs/results.md").stat().st_mtime_ns
    assert update_documents(root) == []
    assert (root / "docs/results.md").stat().st_mtime_ns == before


def test_documents_are_current_until_the_results_change(root):
    assert outdated_documents(root) == ["README.md", "docs/results.md"]
    update_documents(root)
    assert outdated_documents(root) == []
    write_text(root / "reports/results.md", TABLES.replace("1", "2"))
    assert outdated_documents(root) == ["docs/results.md"]


@pytest.mark.parametrize(
    "text", ["no markers", "<!-- results:begin -->", "<!-- results:end --> <!-- results:begin -->"]
)
def test_without_its_markers_nothing_is_written(root, text):
    write_text(root / "docs/results.md", text)
    readme = (root / "README.md").read_text()
    with pytest.raises(InputError, match=r"docs/results\.md: expected one line <!-- results:begin -->"):
        update_documents(root)
    assert (root / "docs/results.md").read_text() == text
    assert (root / "README.md").read_text() == readme


def test_a_workspace_without_documents_has_none(root):
    assert has_documents(root)
    (root / "docs/results.md").unlink()
    assert not has_documents(root)
