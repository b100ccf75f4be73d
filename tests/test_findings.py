"""What README and report say: best cells, answers, verdicts, and a README that is never stale."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from glscl.findings import MARKS, QUESTIONS, answers, best, ledger, main_table, with_results
from tests import made_up

ROOT = Path(__file__).parents[1]
CLAIM = {"claim": "It is fast.", "verdict": "contradicted", "scope": "One machine.", "test": "Time it.", "evidence": []}


@pytest.fixture
def results(tmp_path):
    """A copy of the committed results without answers and claims."""
    folder = tmp_path / "results"
    shutil.copytree(ROOT / "results", folder)
    for file in [*folder.glob("claims.json"), *(folder / f"scenes/{q.stage}.json" for q in QUESTIONS)]:
        file.unlink(missing_ok=True)
    return folder


def cells(**columns) -> pd.DataFrame:
    return pd.DataFrame({"method": list("abcd"), "temporal encoder": ["none", "2 layers", "2 layers", None]} | columns)


def test_the_best_cell_is_found_among_rows_that_compare():
    table = cells(**{"R@1 \N{UPWARDS ARROW}": ["9.0 [8.0, 10.0]", "10.0", "30.0 [1.0, 50.0]", "96.0"]})
    table["MdR \N{DOWNWARDS ARROW}"] = ["9.0", "5.0 [4.0, 6.0]", "5.0", "1.0"]
    table["R@1 over seeds"] = "sd 0.1, n = 3"
    found = best(table)
    assert found.shape == table.shape
    assert found["R@1 \N{UPWARDS ARROW}"].tolist() == [True, False, True, False]
    assert found["MdR \N{DOWNWARDS ARROW}"].tolist() == [True, True, True, False]
    assert not found[["method", "temporal encoder", "R@1 over seeds"]].any(axis=None)


def test_corpora_do_not_compete():
    table = cells(**{"R@1 \N{UPWARDS ARROW}": ["9.0", "10.0", "30.0", "96.0"]})
    table = pd.concat([table.assign(corpus="one"), table.assign(corpus="two")], ignore_index=True)
    assert best(table)["R@1 \N{UPWARDS ARROW}"].sum() == 4


def test_answers_come_from_the_results_and_absent_ones_name_their_stage(results):
    thorough = {"losses-thorough": {"answer": "With ten seeds."}}
    made_up.write(results / "scenes", {"losses": {"answer": "The losses answer."}} | thorough)
    found = {question.stage: sentences for question, sentences in answers(results, ["scenes"])}
    assert found["losses"] == ["The losses answer.", "Thorough run: With ten seeds."]
    assert "the stage transfer would write transfer.json" in found["transfer"][0]
    assert "published 221 times" in found["costs"][0]
    assert len(found) == 5


def test_the_readme_grows_answers_and_verdicts(results):
    made_up.write(results / "scenes", {"losses": {"answer": "The losses answer."}})
    empty = f"# Study\n{MARKS[0]}\n{MARKS[1]}\nend"
    text = with_results(empty, results, ["scenes"])
    assert "claim | verdict" not in text
    assert "No claim is judged here; the stage ledger would write claims.json." in text
    made_up.write(results, {"claims": {"answer": "One of one.", "claims": [CLAIM]}})
    assert ledger(results)["claims"] == [CLAIM]
    text = with_results(empty, results, ["scenes"])
    assert "One of one." in text
    assert "3. *What does removing the auxiliary cross-modal losses do?*\n   * The losses answer.\n" in text
    assert "| It is fast. | contradicted | One machine. |" in text
    assert text.startswith("# Study\n")
    assert text.endswith("\nend")
    assert with_results(text, results, ["scenes"]) == text
    bold = [line for line in text.splitlines() if "**" in line]
    assert 1 <= len(bold) <= 2 * 4  # rows with and without a temporal encoder, four columns
    assert main_table(results, ["scenes"]).index.is_unique


def test_the_readme_shows_the_committed_results():
    datasets = yaml.safe_load((ROOT / "params.yaml").read_text())["study"]["datasets"]
    readme = (ROOT / "README.md").read_text()
    assert with_results(readme, ROOT / "results", datasets) == readme, "the README is stale: run `make readme`"


def test_a_readme_without_marks_is_refused(results):
    with pytest.raises(ValueError, match="must hold the marks"):
        with_results("no table", results, ["scenes"])


def test_every_question_has_its_notebook_and_stage():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for question in QUESTIONS:
        named = Path(question.page).stem
        assert (ROOT / f"notebooks/{named}.ipynb").exists(), named
        assert question.stage in stages
