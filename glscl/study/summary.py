"""The few numbers of a profile that `dvc metrics`, `dvc exp show` and `dvc plots` show; all others stay in their files.

They are read from the results of the other stages and from the ledger, without training.
"""

from collections import Counter
from pathlib import Path

import pandas as pd

from glscl.evaluation.results import reported
from glscl.files import write_json, write_table
from glscl.report.names import named
from glscl.study.answers import Study
from glscl.study.evidence import VERDICTS, Evidence
from glscl.study.rules import RELEASED, strongest_rival


def numbers(study: Study, evidence: Evidence, ledger: dict) -> dict:
    """Twelve numbers about GLSCL on the first corpus of the study, None where a stage did not run or it did not train.

    r1: R@1 of text to video, percent, of GLSCL and of the strongest head with the same temporal encoder; median_rank:
    of GLSCL. concepts: directions that the concepts of a text and of a video span. losses_add: what both auxiliary
    losses change in R@1, points. steps_to_goal: training steps until every head's common R@1. after_a_shift: R@1
    without training on the target, mean over shifts. claims: how many have each verdict. Means are over seeds.
    """
    dataset = study.datasets[0]
    found = evidence.corpora[dataset]
    rows = reported(study.table(dataset), "t2v").set_index("method")
    own = rows.loc["glscl"] if "glscl" in rows.index else {}
    rival = strongest_rival(evidence, dataset)
    concepts = found.get("concepts", {}).get("mean", {})
    losses = found.get("losses", {}).get("contrasts", {}).get("both losses", {}).get(RELEASED)
    goal = found.get("convergence", {}).get("heads", {}).get("glscl", {}).get("steps_to_goal")
    shifts = [heads["glscl"] for heads in found.get("transfer", {}).get("shifts", {}).values() if "glscl" in heads]
    verdicts = Counter(claim["verdict"] for claim in ledger["claims"])
    return {
        "r1": {"glscl": own.get("R@1"), "best_rival": rows.loc[rival[0], "R@1"] if rival else None},
        "median_rank": own.get("MdR"),
        "concepts": {f"rank_{side}": concepts.get(f"rank_{side}") for side in ("text", "video")},
        "losses_add": losses and losses["r1"]["difference"],
        "steps_to_goal": goal and goal["mean"],
        "after_a_shift": sum(head["zero_shot"]["mean"] for head in shifts) / len(shifts) if shifts else None,
        "claims": {verdict: verdicts[verdict] for verdict in VERDICTS},
    }


def curves(study: Study) -> pd.DataFrame:
    """R@1 in training, a row per method and look: columns corpus, looks, method, step, R@1, means over seeds.

    looks: validation after each epoch, of every trained method, and the test split several times per epoch, of the
    methods that the stage `convergence` follows.
    """
    found = []
    for dataset in study.datasets:
        folder, rows = study.results / study.profile / dataset, reported(study.table(dataset), "t2v")
        for method in rows.loc[rows["temporal_layers"].notna(), "method"]:
            curve = pd.read_csv(folder / f"curve-{method}.csv")[["step", "val_r1"]].rename(columns={"val_r1": "R@1"})
            found.append(curve.assign(corpus=dataset, looks="validation", method=method))
        if (file := folder / "convergence.csv").exists():
            steps = pd.read_csv(file).groupby(["method", "step"], as_index=False)["r1"].mean()
            found.append(steps.rename(columns={"r1": "R@1"}).assign(corpus=dataset, looks="test"))
    columns = ["corpus", "looks", "method", "step", "R@1"]
    return _named(pd.concat(found)[columns] if found else pd.DataFrame(columns=columns))


def accuracy(study: Study) -> pd.DataFrame:
    """R@1 of text to video on the test split, percent, a row per corpus and method: columns corpus, method, R@1."""
    tables = [reported(study.table(dataset), "t2v").assign(corpus=dataset) for dataset in study.datasets]
    return _named(pd.concat(tables)[["corpus", "method", "R@1"]])


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return named(table).round({"R@1": 4}).reset_index(drop=True)


def write_summary(study: Study, evidence: Evidence, ledger: dict) -> Path:
    """Write results/summary/<profile>/: metrics.json, curves.csv and accuracy.csv; return the folder."""
    folder = study.results / "summary" / study.profile
    write_json(folder / "metrics.json", numbers(study, evidence, ledger))
    write_table(folder / "curves.csv", curves(study))
    write_table(folder / "accuracy.csv", accuracy(study))
    return folder
