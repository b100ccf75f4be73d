"""The documents made of the largest run with results: README.md between its marks, docs/results.md, and figures.

python -m glscl.study.documents
"""

import html
from pathlib import Path

import pandas as pd

from glscl.evaluation.comparisons import ZERO_SHOT, verdict_counts
from glscl.evaluation.results import DIRECTIONS, OTHER_EPOCHS, describe, edges, reported, shown
from glscl.files import write_text
from glscl.report.figures.cards import WIDTH, Row, intervals
from glscl.report.figures.costs import drawn_ratios
from glscl.report.figures.overview import TITLE, counted, overview
from glscl.report.figures.svg import Drawing
from glscl.report.markdown import between, plain, table_markdown
from glscl.report.names import name_of
from glscl.report.tables import best, condition, deciding, turning, with_interval
from glscl.study.answers import (
    GALLERY,
    Study,
    answers,
    heads,
    main_table,
    points,
    query_macs,
    short_table,
    untrained,
)
from glscl.study.loss_tables import headline_figure, rank_figure
from glscl.study.measured_costs import ratio_bars
from glscl.study.published import published

README, RESULTS = "README.md", "docs/results.md"
MARKS = "<!-- results: made by `make readme` -->", "<!-- end of results -->"
ASIDE = {"metrics": "Evaluation", "concepts": "Concepts"}  # stages that answer no research question
WAYS = {"t2v": "text to video", "v2t": "video to text"}


def picture(study: Study, dataset: str, width: int, beside: Study | None = None, title: str = TITLE) -> Drawing:
    """The picture of a corpus; beside: another profile, whose picture has the same axes."""
    others = points(beside, dataset) if beside else None
    return overview(points(study, dataset), width, GALLERY, untrained(study, dataset), others, title)


def caption(study: Study) -> str:
    """What the bars of the picture are, and what its cost counts."""
    return (
        "Bars: 95 % intervals over queries and seeds. The cost is a head's work at the size of ViT-B/32; CLIP's text "
        f"encoder adds the same {_of_clip(study)} to each. All heads have the same temporal encoder."
    )


def _of_clip(study: Study) -> str:
    return counted(study.found("costs")["clip"]["32 words"])


CEILINGS = {"bag": "ceiling: bag of facts", "bound": "ceiling: bound", "ordered": "ceiling: bound, in order"}


def accuracy(study: Study, width: int = WIDTH) -> Drawing:
    """R@1 of the trained methods of the first corpus, with untrained CLIP and what could be reached as rows."""
    dataset = study.datasets[0]
    metrics, table = study.found("metrics", dataset), reported(study.table(dataset), "t2v")
    table = table[table["temporal_layers"].notna() | (table["method"] == ZERO_SHOT)].sort_values("R@1")
    rows = [
        Row(
            _marked(study, row["method"], metrics),
            row["R@1"],
            *edges(row, "R@1"),
            row["method"] == "glscl",
        )
        for _, row in table.iterrows()
    ]
    rows += [Row(name, metrics["ceilings"][kind]["R@1"]) for kind, name in CEILINGS.items() if metrics["ceilings"]]
    return intervals(f"text-to-video R@1 on {dataset}, %", rows, width=width)


def _marked(study: Study, method: str, metrics: dict) -> str:
    name = name_of(method)
    if method not in metrics["did_not_train"]:
        return name
    bare = heads(study)[method] == "mean_pooling" and metrics["temporal_layers"][method] == 0
    return f"{name} ({'untrained' if bare else 'did not train'})"


def cost_ratios(study: Study) -> Drawing:
    """How many times GLSCL's cost X-CLIP takes: as published, counted, and measured on one machine."""
    bars = ratio_bars(study.found("costs"), study.found("costs", measured=True))
    return drawn_ratios(bars, "X-CLIP over GLSCL, times")


def figures(study: Study) -> dict[str, tuple[Drawing, str]]:
    """The figures of README by file, each with what it shows; one without results is left out."""
    drawn = {
        "docs/accuracy.svg": (
            accuracy(study),
            "R@1 of every head, between zero-shot CLIP and what could be reached, ties at random.",
        ),
        "docs/costs.svg": (cost_ratios(study), "What X-CLIP costs over GLSCL; the paper says 221 times."),
        "docs/settings.svg": (
            headline_figure(published(study.results / "published.csv")),
            "The paper's headline beside its own other settings on MSR-VTT.",
        ),
    }
    losses = study.found("losses", study.questions[0]) if study.questions else {}
    if losses.get("followed"):
        about = (
            "How many directions GLSCL's concepts span over training, as released and freed from what collapses them."
        )
        drawn["docs/rank.svg"] = rank_figure(losses), about
    return drawn


def in_short(study: Study, dataset: str) -> str:
    """What was found on a corpus, in three sentences: recalls, where GLSCL stands, and what heads can tell apart."""
    metrics, rows = study.found("metrics", dataset), reported(study.table(dataset), "t2v").set_index("method")
    twins, layers = metrics["twins"], metrics["temporal_layers"]
    minus = {head: one for head, one in metrics["glscl_minus"].items() if layers.get(head) == layers["glscl"]}
    best = rows.loc[["glscl", *minus], "R@1"].idxmax()
    others = {name_of(ZERO_SHOT): untrained(study, dataset)}
    if best != "glscl":
        others[f"the best head ({name_of(best)})"] = rows["R@1"][best]
    found = ", ".join(f"{name} for {recall:.0f}" for name, recall in others.items() if recall is not None)
    above, below, _ = verdict_counts([one["R@1"] for one in minus.values()])
    order = {head: twins[head]["order"]["accuracy"] for head in dict.fromkeys(("glscl", best))}
    told = ", ".join(f"{name_of(head)} in {accuracy:.0f}" for head, accuracy in order.items())
    return (
        f"Of 100 sentences on {dataset}, GLSCL finds the right video first for {rows['R@1']['glscl']:.0f}, {found}. "
        f"It is significantly better than {above} and worse than {below} of the {len(minus)} heads that have the same "
        "temporal encoder. Given a sentence and the same with its events exchanged, the right one has the higher score "
        f"with {told} of 100 cases; guessing gives 50."
        + "".join(f" On {other}: {_recalls(study, other)}." for other in study.datasets[1:])
    )


def _recalls(study: Study, dataset: str) -> str:
    """R@1 of every trained method of a corpus and of zero-shot CLIP, the best first."""
    rows = reported(study.table(dataset), "t2v").sort_values("R@1", ascending=False)
    kept = rows[rows["temporal_layers"].notna() | (rows["method"] == ZERO_SHOT)]
    return ", ".join(f"{name_of(row['method'])} {row['R@1']:.0f}" for _, row in kept.iterrows())


def readme_part(study: Study, drawn: dict[str, tuple[Drawing, str]]) -> str:
    """What was found, the five questions with their answers, the figures, and the short table, as Markdown.

    drawn: as `figures` gives them.
    """
    dataset, ledger = study.datasets[0], study.ledger()
    asked = [
        f"{number}. **{plain(question.short)}** {' '.join(plain(answer.sentence) for answer in found)}"
        for number, (question, found) in enumerate(answers(study), start=1)
    ]
    verdicts: dict[str, list[str]] = {}
    for claim in ledger["claims"]:
        verdicts.setdefault(claim["verdict"], []).append(claim["short"])
    judged = [f"* **{verdict.capitalize()}**: {'; '.join(map(plain, short))}." for verdict, short in verdicts.items()]
    table = short_table(study, dataset)
    heavy = best(table).drop(columns="temporal encoder")
    shown = "\n".join(
        f'<img src="{file}" width="49%" alt="{html.escape(about)}">' for file, (_, about) in drawn.items()
    )
    captions = " ".join(about for _, about in drawn.values())
    return "\n\n".join(
        [
            f"**In short.** {plain(in_short(study, dataset))}",
            "\n".join(asked),
            "**The claims of the paper's abstract**, one finding each, named before the run:",
            "\n".join(judged),
            f"<p>\n{shown}\n</p>",
            f"*{plain(captions)} {plain(study.about(dataset))}. Bars: 95 % intervals over queries and seeds.*",
            f"Numbers of the profile `{study.profile}`; times measured on {plain(study.hardware())}. "
            f"Every row, every interval and the number that decides each claim: [{RESULTS}]({RESULTS}).",
            table_markdown(table.drop(columns="temporal encoder"), heavy),
            "In brackets: 95 % intervals. Bold: best trained head. MdR: median rank. No post-processing. MACs are the "
            f"head's, of one sentence and {GALLERY:,} videos; CLIP's text encoder adds {_of_clip(study)} to each.",
        ]
    )


def results_part(study: Study) -> str:
    """All answers, rows and intervals, and the ledger, as Markdown."""
    parts = ["## The five questions"]
    for number, (question, found) in enumerate(answers(study), start=1):
        notebook = f"notebooks/{Path(question.page).stem}.ipynb"
        parts.append(f"### {number}. {plain(question.text)}")
        for answer in found:
            parts.append(f"**{plain(answer.sentence)}**")
            parts += ["\n".join(f"* {plain(detail)}" for detail in answer.details)] if answer.details else []
        parts.append(f"[{notebook}](../{notebook})")
    for dataset in study.datasets:
        parts += _corpus_part(study, dataset)
    parts += _cost_part(study) + _ledger_part(study.ledger())
    return "\n\n".join(parts)


def _corpus_part(study: Study, dataset: str) -> list[str]:
    parts = [
        f"## {dataset}",
        f"{plain(study.about(dataset))}. Means over seeds; in brackets 95 % intervals over queries and seeds, of "
        "medians over queries.",
    ]
    for stage, title in ASIDE.items():
        found = study.found(stage, dataset)
        sentences = [plain(sentence) for sentence in [found.get("answer"), *found.get("details", [])] if sentence]
        parts += [f"### {title}", "\n".join(f"* {sentence}" for sentence in sentences)] if sentences else []
    table = study.table(dataset)
    for split in table["split"].unique():
        for direction in DIRECTIONS:
            cells = main_table(study, dataset, direction, split)
            if len(cells):
                parts += [f"### {WAYS[direction].capitalize()}, split `{split}`", table_markdown(cells, best(cells))]
    parts += _differences_part(study.found("metrics", dataset))
    processed = table[(table["post_processing"] != "none") & (table["direction"] == "t2v")]
    other = table[table["selection"].isin(OTHER_EPOCHS) & (table["direction"] == "t2v")]
    for title, rows in (("Post-processing, text to video", processed), ("Other epochs, text to video", other)):
        parts += [f"### {title}", table_markdown(shown(rows, ["R@1", "R@5", "R@10"]))] if len(rows) else []
    return parts


def _differences_part(metrics: dict) -> list[str]:
    """GLSCL minus every other head, in points, the same queries under both."""
    minus, layers = metrics.get("glscl_minus", {}), metrics.get("temporal_layers", {})
    if not minus:
        return []
    rows = []
    for method, gains in minus.items():
        row = {"GLSCL minus": method, "same temporal encoder": "yes" if layers[method] == layers["glscl"] else "no"}
        row |= {f"{metric}, points": describe(*map(gain.get, EDGES)) for metric, gain in gains.items()}
        rows.append(row)
    about = "The same queries under both heads; text to video."
    return ["### GLSCL minus the other heads", about, table_markdown(pd.DataFrame(rows))]


EDGES = "difference", "low", "high"


def _cost_part(study: Study) -> list[str]:
    macs = {dataset: query_macs(study, dataset) for dataset in study.datasets}
    rows = [
        {"method": method, f"query against {GALLERY:,} videos": counted(work)}
        for method, work in macs[study.datasets[0]].items()
    ]
    about = (
        "Multiply-accumulates of the head at the size of ViT-B/32, CLIP left out; [costs.md](costs.md) counts the rest."
    )
    return ["## Cost of a query", about, table_markdown(pd.DataFrame(rows))] if rows else []


def _ledger_part(ledger: dict) -> list[str]:
    parts = ["## The claims of the abstract", plain(ledger["answer"])]
    parts += [plain(" ".join(ledger.get("details", [])))] if ledger.get("details") else []
    parts += [table_markdown(pd.DataFrame(map(_verdict, ledger["claims"])))] if ledger["claims"] else []
    for number, claim in enumerate(ledger["claims"], start=1):
        findings = pd.DataFrame([_finding(finding) for finding in claim["evidence"]])
        parts += [f"### Claim {number}: {plain(claim['claim'])}", f"**{claim['verdict'].capitalize()}.**"]
        parts += [f"Test: {plain(claim['test'])} Scope: {plain(claim['scope'])}", table_markdown(findings)]
    return parts


def _verdict(claim: dict) -> dict:
    found = deciding(claim)
    return {
        "claim": claim["claim"],
        "verdict": claim["verdict"],
        "deciding number": found and with_interval(found),
        "the claim holds": found and condition(found),
        "would change at": found and turning(claim),
    }


KINDS = {"published": "published", "measured": "measured here", "time": "time on one machine"}


def _finding(finding: dict) -> dict:
    return {
        "role": "context" if finding["threshold"] is None else "decides",
        "evidence": KINDS[finding["kind"]],
        "finding": finding["text"],
        "value": with_interval(finding),
        "where": f"{finding['page']}, {finding['figure']}",
    }


def documents(root: Path) -> dict[str, str]:
    """The texts of the documents of the project at `root` by their paths, made anew from its results."""
    study = Study.largest(root)
    drawn = figures(study)
    read = {name: (root / name).read_text(encoding="utf-8") for name in (README, RESULTS)}
    return {
        README: between(read[README], MARKS, readme_part(study, drawn), README),
        RESULTS: between(read[RESULTS], MARKS, results_part(study), RESULTS),
        **{file: drawing.svg(alone=True) for file, (drawing, _) in drawn.items()},
    }


def write_documents(root: Path) -> None:
    """Write the documents of the project at `root` anew."""
    for name, text in documents(root).items():
        write_text(root / name, text)


if __name__ == "__main__":
    write_documents(Path())
