"""Every notebook, on a small corpus, as the pipeline runs it; then the report in a browser; then each by hand."""

import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from IPython.display import display

from benchmarks.small_study import METHODS, ON_VIDEOS, RERANKER
from glscl.study.project import STAGE
from tests import ROOT
from tests.browser import Browser
from tests.small_project import found, run

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def finished(project):
    """The project once every stage of its quick profile has run."""
    assert run(project, "features") == 0
    for method in [*METHODS, RERANKER]:
        assert run(project, "train", method=method) == 0
    for name in ("costs", "evaluate", "concepts", "benchmarks", "worlds", "losses", "convergence", "transfer"):
        assert run(project, name) == 0, name
    for name in ("check", "prepare", "encode"):
        assert run(project, name, dataset="scenes") == 0
    for method in ON_VIDEOS:
        assert run(project, "train", dataset="scenes", method=method) == 0
    for name in ("evaluate", "concepts", "search", "benchmarks"):
        assert run(project, name, dataset="scenes") == 0, name
    for name in ("ledger", "report"):
        assert run(project, name) == 0
    return project


def test_the_whole_pipeline_on_small_corpora(finished):
    project = finished
    table = pd.read_csv(project / "results/quick/scenes/table.csv")
    assert {*ON_VIDEOS, "chance", "oracle", "bag-of-words ridge"} <= set(table["method"])
    rows = pd.read_csv(project / "results/quick/facets/rows.csv")
    assert set(rows.loc[rows["method"] == "glscl", "seed"]) == {0, 1}
    assert (rows["missing"] == 0).all()
    metrics = found(project, "metrics")
    assert set(metrics["twins"]) == {*METHODS, RERANKER}
    assert set(metrics["twins"]["glscl"]) == {"colour", "order", "shape", "motion"}
    assert metrics["over_control"][RERANKER]["control"] == "clip4clip_seqTransf"
    assert metrics["ceilings"]["bag"]["R@1"] <= metrics["ceilings"]["ordered"]["R@1"]
    for method in METHODS:
        sweep = found(project, f"rates-{method}")
        assert sweep["kept"] == max(map(float, sweep["val_r1"]), key=lambda rate: sweep["val_r1"][f"{rate:g}"])
    assert set(found(project, "worlds")["worlds"]["two"]["heads"]) == {"x_clip", "glscl"}
    losses = found(project, "losses")
    assert {"inter-consistency", "intra-diversity", "both losses"} <= set(losses["contrasts"])
    curves = pd.read_csv(project / "results/quick/facets/convergence.csv")
    assert set(curves["method"]) == {"x_clip", "glscl"}
    shifts = found(project, "transfer")["shifts"]
    assert set(shifts) == {"look", "length"}
    assert all(set(heads) == {"x_clip", "glscl"} for heads in shifts.values())
    claims = json.loads((project / "results/claims/quick.json").read_text())["claims"]
    assert len({claim["claim"] for claim in claims}) == 11
    assert all(claim["evidence"] for claim in claims)


def test_the_pages_of_the_report_open_in_a_browser(finished):
    report = finished / "reports/quick"
    pages = sorted(path.name for path in report.glob("*.html"))
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} - {"13_report", "explore"}
    assert pages == sorted(f"{name}.html" for name in [*notebooks, "index"])
    with Browser(1280, 900) as browser:
        for page in pages:
            browser.open(report / page)
            assert browser.errors == [], page
            assert browser.external_requests() == [], page
            assert len(browser.run("document.body.innerText")) > 400, page


def test_every_notebook_runs_by_hand_and_changes_nothing_that_a_stage_made(finished, monkeypatch, capsys):
    (finished / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", finished / ".dvc")
    subprocess.run(["git", "init", "--quiet", finished], check=True)
    monkeypatch.delenv(STAGE)  # which a stage sets for its kernel
    before = made_by_stages(finished)
    parameters = {}
    for file in sorted((finished / "work/notebooks").rglob("*.json")):
        parameters.setdefault(file.stem.partition("-")[0], json.loads(file.read_text()))
    assert parameters.keys() == {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    for name, given in parameters.items():
        monkeypatch.chdir(finished / "notebooks")
        names = {"display": display}
        for cell in json.loads(Path(f"{name}.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)  # in this process: a kernel takes ten seconds to start
                names |= given if "parameters" in cell["metadata"].get("tags", []) else {}
        assert "No stage runs this notebook: it writes into work/by-hand/" in capsys.readouterr().out, name
    assert made_by_stages(finished) == before


def made_by_stages(project: Path) -> dict[Path, bytes]:
    """The files that are there, and what they hold, but for those of a notebook that was run by hand."""
    every = (path for name in ("results", "work", "reports") for path in (project / name).rglob("*"))
    return {path: path.read_bytes() for path in every if path.is_file() and "by-hand" not in path.parts}
