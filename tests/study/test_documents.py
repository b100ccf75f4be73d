"""README.md, docs/results.md and the figures: what they say, and that the committed ones are not stale."""

import json
import re
import shutil
import subprocess

import pytest

from glscl.study import documents
from glscl.study.answers import QUESTIONS, Study
from tests import ROOT
from tests.study import made_up_profile as made_up

EMPTY = f"# Title\n{documents.MARKS[0]}\n{documents.MARKS[1]}\nend\n"
SOURCES = ["results", "params.yaml"]
FIGURES = ["docs/accuracy.svg", "docs/costs.svg", "docs/settings.svg", "docs/rank.svg"]
MADE = [documents.README, documents.RESULTS, *FIGURES]


@pytest.fixture
def project(tmp_path):
    made_up.write_profile(tmp_path, "full")
    (tmp_path / "docs").mkdir()
    for name in (documents.README, documents.RESULTS):
        (tmp_path / name).write_text(EMPTY)
    return tmp_path


def test_documents_are_made_twice_alike(project):
    documents.write_documents(project)
    made_here = [name for name in MADE if name != "docs/rank.svg"]  # the made-up losses have no curve
    first = {name: (project / name).read_text() for name in made_here}
    documents.write_documents(project)
    assert first == {name: (project / name).read_text() for name in made_here}
    assert all(first[name].startswith("# Title\n") and first[name].endswith("\nend\n") for name in made_here[:2])


def test_the_readme_has_answers_verdicts_figures_and_a_short_table(project):
    made = documents.documents(project)
    text = made[documents.README]
    assert all(f'<img src="{name}"' in text for name in FIGURES[:3])
    assert "ceiling: bag of facts" in made["docs/accuracy.svg"]
    assert "published" in made["docs/costs.svg"]
    assert "* **Supported**: CLIP pre-training is the state of the art; " in text
    assert text.index("**In short.** Of 100 sentences on ") < text.index("1. **")
    for number, question in enumerate(QUESTIONS, start=1):
        assert f"{number}. **{question.short}** " in text
    assert "3. **What do the auxiliary losses add?** The losses answer.\n" in text
    assert "profile `full`" in text
    assert made_up.HARDWARE in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) - 2 <= 7
    assert "| X-CLIP | **24.0** [23.0, 25.0] | **24.0** |" in text
    assert "temporal encoder |" not in text


@pytest.mark.parametrize(("layers", "said"), [(2, "did not train"), (0, "untrained")])
def test_a_head_that_is_not_above_its_control_is_marked(project, layers, said):
    file = project / "results/full/scenes/metrics.json"
    metrics = json.loads(file.read_text())
    metrics["did_not_train"] = ["clip4clip_seqTransf"]
    metrics["temporal_layers"]["clip4clip_seqTransf"] = layers
    made_up.write(file, metrics)
    assert f"CLIP4Clip ({said})" in documents.documents(project)["docs/accuracy.svg"]


def test_the_size_of_the_corpus_is_said_once(project):
    made = documents.documents(project)
    assert made[documents.README].count("1,000 texts") == 1
    assert made[documents.RESULTS].count("1,000 texts") == 1


def test_the_results_page_has_all_rows_answers_and_verdicts(project):
    text = documents.documents(project)[documents.RESULTS]
    for question in QUESTIONS:
        assert question.text in text
        assert f"(../notebooks/{question.page.removesuffix('.html')}.ipynb)" in text
    for sentence in ("T-MASS has a detail.", "Concepts answer.", "GLSCL is below one head.", "It was timed."):
        assert f"{sentence}" in text
    for heading in ("Text to video, split `test`", "Video to text, split `test`", "Post-processing", "Other epochs"):
        assert f"### {heading}" in text
    assert "| X-CLIP | yes | -9.0 [-10.0, -8.0] |" in text
    assert "| X-Pool, as published | no | -1.0 [-2.0, 0.0] |" in text
    assert "| cross-encoder | 9.14 billion |" in text
    assert text.count("| supported |") == len(made_up.ledger()["claims"])
    assert "| supported | 2 [1, 3] | above 0 | 1 |" in text
    assert "| decides | measured here | R@1 | 2 [1, 3] | 09_losses, " in text
    assert "| context | time on one machine | a time | 3 | 09_losses, " in text


def test_text_of_results_stays_text(project):
    hostile = "a | <img src=x onerror=alert(1)> [b](http://c)"
    made_up.write(project / "results/full/scenes/losses.json", {"answer": hostile, "details": [hostile]})
    made = documents.documents(project)
    for name in (documents.README, documents.RESULTS):
        assert "<img src=x" not in made[name]
        assert r"a \| &lt;img src=x onerror=alert(1)> \[b](http://c)" in made[name]


def test_a_readme_without_marks_is_refused(project):
    (project / documents.README).write_text("no table")
    with pytest.raises(ValueError, match=r"README\.md must hold the marks"):
        documents.documents(project)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """What git would commit of the documents and their sources: a pipeline run does not change it."""
    target = tmp_path_factory.mktemp("staged")
    listed = subprocess.run(["git", "ls-files", "-z", "--", *SOURCES, *MADE], cwd=ROOT, capture_output=True, text=True)
    subprocess.run(
        ["git", "checkout-index", f"--prefix={target}/", "-z", "--stdin"],
        cwd=ROOT,
        input=listed.stdout,
        text=True,
        check=True,
    )
    return target


def test_the_committed_documents_show_the_committed_results(staged):
    for name, text in documents.documents(staged).items():
        assert (staged / name).read_text(encoding="utf-8") == text, f"{name} is stale: run `make readme`"


def test_committed_answers_are_one_sentence_of_25_words_at_most(staged):
    long, answers = {}, 0
    for file in sorted(staged.glob("results/**/*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        for sentence in [found.get("answer", ""), *found.get("details", [])]:
            answers += bool(sentence)
            words = len(sentence.split())
            if words > 25 or (sentence and not sentence.endswith(".")):
                long[f"{file.name}: {sentence}"] = words
    assert answers >= len(QUESTIONS)
    assert not long


def test_the_committed_first_screen_is_short(staged):
    text = (staged / documents.README).read_text(encoding="utf-8")
    first, shown = text.split(documents.MARKS[0])[0], text.split(documents.MARKS[0])[1].split(documents.MARKS[1])[0]
    assert "make reproduce" in first
    assert "make test" in first
    assert len(re.findall(r"^\d\. ", shown, re.MULTILINE)) == len(QUESTIONS)
    assert len(re.findall(r"^\| ", shown, re.MULTILINE)) - 2 <= 7
    assert Study.largest(staged).exists()


def test_the_largest_run_with_results_is_shown(project):
    assert Study.largest(project).profile == "full"
    made_up.write_profile(project, "quick")
    assert "profile `full`" in documents.documents(project)[documents.README]
    shutil.rmtree(project / "results/full")
    assert "profile `quick`" in documents.documents(project)[documents.README]
