"""What the study found, for the README and the report: the main table, sentences, answers and verdicts.

python -m glscl.findings writes the README's part between its two marks.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from glscl.results import LEAK, describe, reported, shown
from glscl.stage import write_text


class Question(NamedTuple):
    """A research question, and the stage, notebook page and file of results that answer it."""

    text: str
    stage: str
    page: str
    per_corpus: bool = True


QUESTIONS = [
    Question(
        "How does the MASS framework (T-MASS) compare on ActivityNet Captions and Charades-STA with other text-video "
        "retrieval models (CLIP, UNITER-like cross-encoders) in mAP@10 and recall@K?",
        "benchmarks",
        "08_benchmarks.html",
    ),
    Question(
        "What does replacing cross-attention by global-local consistency do to latency and throughput in large-scale "
        "retrieval?",
        "costs",
        "06_costs.html",
        per_corpus=False,
    ),
    Question("What does removing the auxiliary cross-modal losses do?", "losses", "09_losses.html"),
    Question(
        "Does consistency learning converge faster than attention-based alignment?",
        "convergence",
        "10_convergence.html",
    ),
    Question("How well does each method carry over to another domain?", "transfer", "11_transfer.html"),
]
CLAIMS = "claims.json"
HIGHER, LOWER = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"  # where better lies, in the columns of `shown`


def main_table(folder: str | Path, datasets: list[str]) -> pd.DataFrame:
    """Text-to-video results of all datasets, from `results/<dataset>/table.csv`, as a reader sees them."""
    parts = []
    for dataset in datasets:
        table = pd.read_csv(Path(folder) / dataset / "table.csv")
        chosen = reported(table, "t2v")
        counts = json.loads((Path(folder) / dataset / "data.json").read_text())["splits"]["test"]
        corpus = f"{dataset}, {counts['captions']:,} texts, {counts['videos']:,} videos"
        parts.append(shown(chosen, ["R@1", "R@5", "R@10", "MdR"]).assign(corpus=corpus))
    joined = pd.concat(parts, ignore_index=True)
    return joined[["corpus", *joined.columns.drop("corpus")]]


def best(cells: pd.DataFrame) -> pd.DataFrame:
    """Which cells of `shown` are the best of their column, among the trained rows that compare; of the same shape.

    Rows compare within one corpus and under the same temporal encoder; rows for scale, such as chance or the oracle,
    have none and are never best. Values that show the same digits are best together.
    """
    marks = pd.DataFrame(False, cells.index, cells.columns)
    trained = cells[cells["temporal encoder"].notna()]
    for _, rows in trained.groupby([name for name in ("corpus", "temporal encoder") if name in cells]):
        for column in [name for name in cells if name.endswith((HIGHER, LOWER))]:
            values = rows[column].str.split(" ").str[0].astype(float)
            marks.loc[rows.index, column] = values == (values.max() if column.endswith(HIGHER) else values.min())
    return marks


def findings(folder: str | Path, datasets: list[str]) -> list[str]:
    """One sentence per dataset and question that the committed results answer."""
    sentences = []
    for dataset in datasets:
        found = json.loads((Path(folder) / dataset / "metrics.json").read_text())
        gains = [
            f"{method} {describe(gain['R@1']['difference'], gain['R@1']['low'], gain['R@1']['high'])}"
            for method, gain in found["glscl_minus"].items()
            if found["temporal_layers"][method] == found["temporal_layers"]["glscl"]
        ]
        if gains:
            sentences.append(
                f"On {dataset}, GLSCL minus the other heads under the same temporal encoder, in points of "
                f"text-to-video R@1, the same queries under both: {'; '.join(gains)}."
            )
        added = {kind: f"{points['mean']:+.1f}" for kind, points in found["added"].items()}
        if leak := added.pop(LEAK, None):
            sentences.append(
                f"There T-MASS's released evaluation, which pools every gallery video with its own caption, would "
                f"report {leak} points of R@1: it leaks and is no result."
            )
        if added:
            means = ", ".join(f"{kind} {points}" for kind, points in added.items())
            sentences.append(f"Post-processing, off in all other numbers, adds on average over heads: {means} points.")
        file = Path(folder) / dataset / "concepts.json"
        if file.exists():
            found = json.loads(file.read_text())
            mean = found["mean"]
            sentences.append(
                f"There the {found['concepts']} concepts of a video span {mean['rank_video']:.1f} directions and those "
                f"of a text {mean['rank_text']:.1f} (effective rank), and matching concepts have cosine "
                f"{mean['matched']:.2f}; the released loss asks for {found['asked']['matched_released']:.2f}."
            )
    return sentences


def cost_finding(folder: str | Path) -> str:
    """What the cost notebook says of the published factor, in a sentence, from `results/costs.json`."""
    found = json.loads((Path(folder) / "costs.json").read_text())
    rival = found["over_glscl"]["x_clip"]
    search, ends = rival["search"], {int(size): ratio for size, ratio in rival["end_to_end"].items()}
    small, large = min(ends), max(ends)
    measured = all(
        row["repeats"]
        for method in ("glscl", "x_clip")
        for row in found["heads"][method]["short"]["queries"]
        if row["gallery"] == large
    )
    return (
        f"The published {rival['published']:.0f} times (X-CLIP over GLSCL) counts two inner products of a pair for "
        f"GLSCL. Counted in full, X-CLIP's head does {rival['macs']['pair']:.0f} times GLSCL's work per pair; a search "
        f"among {search['gallery']:,} videos takes it {search['ratio']:.1f} times as long, and a query from text to "
        f"result, CLIP's text encoder included, {ends[small]:.2g} times against {small:,} videos and {ends[large]:.2g} "
        f"times against {large:,}{'' if measured else ' (extrapolated)'}."
    )


def answers(folder: str | Path, datasets: list[str]) -> list[tuple[Question, list[str]]]:
    """Every question with its answer on each corpus, as the stages wrote them into their results.

    A corpus without the file, such as one that nothing was trained on, is named with the stage that would write it.
    The answer of a thorough run, where there is one, follows and is named so.
    """
    found = []
    for question in QUESTIONS:
        sentences = [] if question.per_corpus else [cost_finding(folder)]
        for dataset in datasets if question.per_corpus else []:
            file = Path(folder) / dataset / f"{question.stage}.json"
            absent = f"{dataset}: not answered here; the stage {question.stage} would write {file.name}."
            sentences.append(json.loads(file.read_text())["answer"] if file.exists() else absent)
            thorough = file.with_stem(f"{file.stem}-thorough")
            sentences += [f"Thorough run: {json.loads(thorough.read_text())['answer']}"] if thorough.exists() else []
        found.append((question, sentences))
    return found


def ledger(folder: str | Path) -> dict:
    """What the stage `ledger` wrote, its `answer` and its `claims`; without claims where it has not run."""
    file = Path(folder) / CLAIMS
    absent = {"answer": f"No claim is judged here; the stage ledger would write {CLAIMS}.", "claims": []}
    return json.loads(file.read_text()) if file.exists() else absent


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])


MARKS = "<!-- results: made by `make readme` -->", "<!-- end of results -->"


def with_results(readme: str, folder: str | Path, datasets: list[str]) -> str:
    """The README with the table, findings, answers and verdicts between its two marks made anew from the results."""
    table = main_table(folder, datasets)
    cells, heavy = table.fillna("").to_numpy().tolist(), best(table).to_numpy().tolist()
    bold = [
        [re.sub(r"^\S+", r"**\g<0>**", cell) if mark else cell for cell, mark in zip(row, marks, strict=True)]
        for row, marks in zip(cells, heavy, strict=True)
    ]
    parts = [_markdown(list(table.columns), bold), "\n".join(f"* {one}" for one in findings(folder, datasets))]
    asked = []
    for number, (question, found) in enumerate(answers(folder, datasets), start=1):
        asked += [f"{number}. *{question.text}*", *(f"   * {sentence}" for sentence in found)]
    parts += ["### The five questions", "\n".join(asked)]
    judged = ledger(folder)
    verdicts = [[claim["claim"], claim["verdict"], claim["scope"]] for claim in judged["claims"]]
    parts += ["### What the paper claims, and what was found here", judged["answer"]]
    parts += [_markdown(["claim", "verdict", "scope"], verdicts)] if verdicts else []
    body = "\n\n".join(parts)
    if not all(mark in readme for mark in MARKS):
        raise ValueError(f"README.md must hold the marks {MARKS[0]} and {MARKS[1]}, got none; put them back.")
    before, rest = readme.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{body}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


if __name__ == "__main__":
    study = yaml.safe_load(Path("params.yaml").read_text())["study"]
    write_text(Path("README.md"), with_results(Path("README.md").read_text(), "results", study["datasets"]))
