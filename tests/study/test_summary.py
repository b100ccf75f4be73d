"""The numbers and tables that DVC shows of a profile: few, read from results, and the committed ones current."""

import json
import re

import pandas as pd
import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo

from glscl.study import summary
from glscl.study.answers import Study
from glscl.study.evidence import read_evidence
from tests import ROOT

WEIGHTS = {"global interaction": 0, "temporal encoder": 1, "local interaction": 1}


def read(profile):
    study = Study.read(profile, root=ROOT)
    evidence = read_evidence(profile, study.datasets, study.questions, WEIGHTS, ROOT / "results")
    ledger = json.loads((ROOT / f"results/claims/{profile}.json").read_text())
    return study, evidence, ledger


def leaves(numbers: dict) -> list:
    return [leaf for value in numbers.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_the_committed_summary_is_that_of_the_committed_results(profile, tmp_path):
    study, evidence, ledger = read(profile)
    copy = study._replace(results=tmp_path)
    (tmp_path / profile).symlink_to(study.results / profile)
    made = summary.write_summary(copy, evidence, ledger)
    names = sorted(path.name for path in made.iterdir())
    assert names == ["accuracy.csv", "curves.csv", "metrics.json"]
    for name in names:
        committed = ROOT / "results/summary" / profile / name
        assert (made / name).read_text() == committed.read_text(), f"run make report PROFILE={profile}"


@pytest.mark.slow
def test_dvc_shows_them_alone_and_draws_them_without_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with Repo(str(ROOT)) as repo:
        shown = repo.metrics.show()[""]["data"]
    assert {path: len(leaves(found["data"])) for path, found in shown.items()} == {
        "results/summary/quick/metrics.json": 12,
        "results/summary/full/metrics.json": 12,
    }
    assert dvc(["plots", "show", "-q", "-o", str(tmp_path / "plots")]) == 0
    page = (tmp_path / "plots/index.html").read_text()
    assert page.count("vegaEmbed('#results_summary_") == 4, "two figures per profile"
    assert not re.search(r"<script[^>]*\ssrc|<link", page), "its scripts are in the page"


def test_twelve_numbers_say_where_glscl_stands():
    study, evidence, ledger = read("quick")
    numbers = summary.numbers(study, evidence, ledger)
    assert len(leaves(numbers)) == 12
    rows = study.table("facets").query("split == 'test' and direction == 't2v'")
    plain = rows[(rows["selection"] == "selected") & (rows["post_processing"] == "none")].set_index("method")["R@1"]
    assert numbers["r1"] == {"glscl": plain["glscl"], "best_rival": plain["x_clip"]}
    assert sum(numbers["claims"].values()) == len(ledger["claims"]) == 11
    assert 1 <= numbers["concepts"]["rank_text"] <= 8


def test_what_did_not_run_has_no_number():
    study, evidence, ledger = read("quick")
    bare = evidence._replace(corpora={"facets": {"metrics": evidence.corpora["facets"]["metrics"]}})
    numbers = summary.numbers(study, bare, ledger)
    assert numbers["concepts"] == {"rank_text": None, "rank_video": None}
    assert numbers["losses_add"] is numbers["steps_to_goal"] is numbers["after_a_shift"] is None


def test_every_trained_method_has_a_curve_and_some_have_looks_within_an_epoch():
    study, _, _ = read("quick")
    table = summary.curves(study)
    assert list(table) == ["corpus", "looks", "method", "step", "R@1"]
    epochs = table[(table["corpus"] == "facets") & (table["looks"] == "validation")]
    assert set(epochs["method"]) == {"GLSCL", "X-CLIP", "X-CLIP in context", "T-MASS", "CLIP4Clip"}
    looks = table[(table["looks"] == "test") & (table["method"] == "GLSCL")]
    first = pd.read_csv(ROOT / "results/quick/facets/curve-glscl.csv")["step"].min()
    assert (looks["step"] <= first).sum() > 3
