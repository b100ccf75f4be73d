"""The index of a report: its profile, the full results beside it, and the notebooks that it shows."""

import json
import re
import shutil
from contextlib import nullcontext

import nbformat
import pytest
from nbformat import v4

from glscl.report.names import name_of
from glscl.study import report_index
from glscl.study.answers import Study
from tests import ROOT
from tests.browser import Browser
from tests.study import made_up_profile as made_up


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder, as the current one, with results of both profiles and executed notebooks of quick."""
    made_up.write_profile(tmp_path, "quick", verdict="contradicted")
    made_up.write_profile(tmp_path, "full")
    shutil.copy(ROOT / "data.dvc", tmp_path / "data.dvc")
    monkeypatch.chdir(tmp_path)
    ran = v4.new_code_cell("1", execution_count=1)
    for path in report_index.executed(quick()):
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell(f"# {path.stem}\n\nWhy?"), ran]), path)
    return tmp_path


def quick() -> Study:
    return Study.read("quick")


def test_it_shows_the_executed_notebooks_of_its_profile(tmp_path):
    made_up.write_profile(tmp_path, "quick")
    study = Study.read("quick", root=tmp_path)
    shown = [str(path) for path in report_index.executed(study)]
    assert shown[0] == "work/notebooks/corpora/00_check-scenes.ipynb"
    assert {"work/notebooks/quick/03_train-scenes-glscl.ipynb", "work/notebooks/quick/06_costs.ipynb"} <= set(shown)
    assert "work/notebooks/quick/05_concepts-scenes.ipynb" in shown
    assert "work/notebooks/quick/07_search-scenes.ipynb" in shown
    assert "work/notebooks/corpora/01_features-scenes.ipynb" not in shown
    profile = study.settings["profiles"]["quick"]
    nothing = profile | {"questions": [], "videos": profile["videos"] | {"methods": [], "concepts_of": []}}
    untrained = study._replace(settings=study.settings | {"profiles": {"quick": nothing}})
    shown = " ".join(map(str, report_index.executed(untrained)))
    assert not any(name in shown for name in ("03_train", "05_concepts", "09_losses"))
    features = study._replace(worlds={"features": ["scenes"], "videos": []})
    shown = [path.stem for path in report_index.executed(features)]
    assert "01_features-scenes" in shown
    assert not {"00_check-scenes", "07_search-scenes"} & set(shown)


def test_every_notebook_but_its_own_has_a_page(project):
    index = report_index.write_report(quick())
    assert index == report_index.Path("reports/quick/index.html")
    pages = {page.stem for page in index.parent.glob("*.html")} - {"index"}
    others = {"01_features", "04_worlds", "13_report", "explore"}  # of features, the index itself, and no stage
    assert pages == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} - others


def test_a_quick_report_shows_the_full_results_beside_its_own(project):
    page = report_index.write_report(quick()).read_text()
    assert "Profile quick: scenes, 1,000 texts and 500 videos, 2 seeds. The committed results" in page
    assert page.count('class="drawing"') == 2 * 2 * 2 + 5  # two pictures of two profiles, wide and narrow; five cards
    assert page.count('<span class="run-name">full</span> The losses answer.') == 1
    assert '<th scope="col">full (decides)</th><th scope="col">quick</th>' in page
    assert "In full all are supported." in page
    assert 'data-verdict="contradicted"' in page
    assert 'data-verdict="supported"' in page
    assert "scenes, profile full" in page


def test_a_full_report_stands_alone(project):
    shutil.copytree("work/notebooks/quick", "work/notebooks/full")
    page = report_index.write_report(Study.read("full")).read_text()
    assert "Profile full: scenes" in page
    assert "quick" not in page
    assert page.count('class="drawing"') == 2 * 2 + 5
    assert page.index('class="drawing"') < page.index("The five questions")


def test_the_main_table_has_the_highest_recall_first_and_marks_glscl(project):
    table = re.search(r"<table class=.results.*?</table>", report_index.write_report(quick()).read_text(), re.DOTALL)[0]
    methods = re.findall(r'<tr( class="own")?><td class="text">(.*?)</td>', table)
    ranked = sorted(made_up.R1, key=made_up.R1.get, reverse=True)
    assert [name for _, name in methods] == [name_of(name) for name in ranked]
    assert [name for marked, name in methods if marked] == ["GLSCL"]


def test_without_training_there_is_no_picture(project):
    made_up.write_profile(project, "quick", [])
    shutil.rmtree(project / "results/full")
    page = report_index.write_report(quick()).read_text()
    assert report_index.PICTURE_TITLE not in page
    assert "The five questions" in page


def test_missing_notebooks_are_named(project):
    (project / "work/notebooks/quick/06_costs.ipynb").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"the report shows work/notebooks/quick/06_costs\.ipynb, which is absent"
    ):
        report_index.write_report(quick())


@pytest.mark.slow
def test_a_page_that_does_not_belong_to_its_results_is_refused(tmp_path):
    notebook = tmp_path / "05_concepts-scenes.ipynb"
    notebook.write_text(json.dumps({"metadata": {"papermill": {"parameters": {"concepts": {"pairs": 80}}}}}))
    report_index.require_current([notebook, tmp_path / "absent.ipynb"])
    for pairs, kept in ((80, True), (70, False)):
        notebook.with_suffix(".json").write_text(json.dumps({"concepts": {"pairs": pairs}}))
        with nullcontext() if kept else pytest.raises(ValueError, match="with other parameters than its results"):
            report_index.require_current([notebook])


def test_the_index_reads_well_on_a_desktop_and_on_a_phone(project):
    index = report_index.write_report(quick())
    with Browser() as browser:
        for width, phone in ((1280, False), (390, True)):
            browser.resize(width, 844, phone=phone)
            browser.open(index)
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.screenshot().std() > 5
            assert browser.external_requests() == []
            assert browser.errors == []
            shown = browser.run(
                "[...document.querySelectorAll('.pictures svg')].filter(s => s.checkVisibility()).length"
            )
            assert shown == 4  # of each profile the pictures that fit
