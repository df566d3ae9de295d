import pytest

from seesay.core.errors import InputError
from seesay.core.files import write_text
from seesay.report.readme import readme_is_current, update_readme

RESULTS = "# Results\n\nA note.\n\n## Data\n\n| a |\n| --- |\n| 1 |\n"


@pytest.fixture
def files(tmp_path):
    write_text(tmp_path / "README.md", "# Title\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nThe end.\n")
    write_text(tmp_path / "results.md", RESULTS)
    return tmp_path / "README.md", tmp_path / "results.md"


def test_the_tables_go_between_the_markers_one_level_deeper(files):
    assert update_readme(*files) is True
    assert files[0].read_text() == (
        "# Title\n\n<!-- results:begin -->\n\n"
        "A note.\n\n### Data\n\n| a |\n| --- |\n| 1 |\n\n"
        "<!-- results:end -->\n\nThe end.\n"
    )


def test_a_second_update_changes_nothing(files):
    update_readme(*files)
    before = files[0].stat().st_mtime_ns
    assert update_readme(*files) is False
    assert files[0].stat().st_mtime_ns == before


def test_a_readme_is_current_until_the_results_change(files):
    assert not readme_is_current(*files)
    update_readme(*files)
    assert readme_is_current(*files)
    write_text(files[1], RESULTS.replace("1", "2"))
    assert not readme_is_current(*files)


@pytest.mark.parametrize(
    "text", ["no markers", "<!-- results:begin -->", "<!-- results:end --> <!-- results:begin -->"]
)
def test_a_readme_without_its_markers_is_refused_and_left_alone(files, text):
    write_text(files[0], text)
    with pytest.raises(InputError, match=r"README\.md: expected one line <!-- results:begin -->"):
        update_readme(*files)
    assert files[0].read_text() == text
