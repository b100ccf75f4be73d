"""The index of a report: pictures, five cards, the verdicts and the main table, of a profile and of the full one."""

import hashlib
import html
import json
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import yaml

from glscl.evaluation.results import reported, shown
from glscl.report.export import build_report
from glscl.report.figures.overview import TITLE as PICTURE_TITLE
from glscl.report.figures.svg import Drawing
from glscl.report.tables import Card, best, cards_html, ledger_html, results_html
from glscl.study.answers import Study, answers, asked_of, points
from glscl.study.cards import card_figure
from glscl.study.documents import accuracy, caption, in_short, picture
from glscl.study.project import commit, hardware

TITLE = "A study of GLSCL for text-video retrieval"
WIDE, HALF, PHONE = 1000, 510, 360  # pixels of a picture alone, of one of two, and on a phone
COLUMNS = ["R@1", "R@5", "R@10", "MdR"]
TABLE = (
    "Text to video, means over seeds with 95 % intervals over queries and seeds, of medians over queries. Bold: best "
    "trained head under the same temporal encoder. No post-processing."
)
SHARED = {"features": ["01_features"], "videos": ["00_check", "01_prepare", "02_encode"]}  # by all profiles
PER_CORPUS = {
    "features": ["04_evaluate", "04_worlds", "08_benchmarks"],
    "videos": ["04_evaluate", "07_search", "08_benchmarks"],
}
OF_QUESTIONS = ["09_losses", "10_convergence", "11_transfer"]
ONCE = ["06_costs", "12_ledger"]


def beside(study: Study) -> Study | None:
    """The committed full study of the same corpora, where there is one and it is not this study."""
    full = study._replace(profile="full")
    return full if study.profile != "full" and full.exists() else None


def executed(study: Study, folder: str | Path = "work/notebooks") -> list[Path]:
    """The executed notebooks that a report of the study shows, in its order, whether they exist or not."""
    own, found = Path(folder) / study.profile, []
    for world, datasets in study.worlds.items():
        trained = study.trained(world)
        pages = [*PER_CORPUS[world], *(["05_concepts"] if trained["concepts_of"] else [])]
        for dataset in datasets:
            found += [Path(folder) / "corpora" / f"{name}-{dataset}.ipynb" for name in SHARED[world]]
            methods = [*trained["methods"], *trained["rerankers"]]
            found += [own / f"03_train-{dataset}-{method}.ipynb" for method in methods]
            found += [own / f"{name}-{dataset}.ipynb" for name in sorted(pages)]
    found += [own / f"{name}-{dataset}.ipynb" for name in OF_QUESTIONS for dataset in study.questions]
    return [*found, *(own / f"{name}.ipynb" for name in ONCE)]


def _runs(study: Study) -> list[Study]:
    """The study, and the committed full one after it where that is another."""
    return [study, *filter(None, [beside(study)])]


def _sized(draw: Callable[[int], Drawing], two: bool) -> str:
    """A drawing twice, for a desktop, alone or as one of two, and for a phone; a page shows the one that fits."""
    wide, narrow = (draw(width=width).svg() for width in (HALF if two else WIDE, PHONE))
    hidden = f'<div class="narrow" style="display: none">{narrow}</div>'  # Jupyter shows the wide one
    return f'<div class="wide">{wide}</div>{hidden}'


def found_html(study: Study) -> str:
    """What was found on the first corpus in three sentences, by the largest run, and R@1 of every head in each run."""
    trained = [run for run in _runs(study) if points(run, study.datasets[0])]
    if not trained:
        return ""
    figures = [
        f"<figure>{_sized(partial(accuracy, run), len(trained) > 1)}<figcaption>Profile {run.profile}: "
        f"{html.escape(run.about(study.datasets[0]))}.</figcaption></figure>"
        for run in trained
    ]
    largest = trained[-1]
    said = f"<p>{html.escape(in_short(largest, study.datasets[0]))} Numbers of the profile {largest.profile}.</p>"
    about = "R@1 between untrained CLIP and what could be reached. Bars: 95 % intervals over queries and seeds."
    return f'{said}<figure><div class="pictures">{"".join(figures)}</div><figcaption>{about}</figcaption></figure>'


def pictures_html(study: Study) -> str:
    """The picture of every corpus, and that of the full profile beside it on the same axes, each with a caption."""
    other = beside(study)
    figures = []
    for dataset in study.datasets:
        for one, another in ((study, other), (other, study)):
            if one and points(one, dataset):
                title = f"{dataset}, profile {one.profile}"
                drawn = _sized(partial(picture, one, dataset, beside=another, title=title), bool(other))
                figures.append(f"<figure>{drawn}</figure>")
    if not figures:
        return ""
    figures = f'<div class="pictures">{"".join(figures)}</div>'
    return f"<figure>{figures}<figcaption>{html.escape(caption(study))}</figcaption></figure>"


def cards(study: Study) -> list[Card]:
    """The five questions with their answers, those of the committed full profile after them, and a small figure."""
    runs, found = _runs(study), []
    for number, (question, _) in enumerate(answers(study)):
        said = [(run.profile, answer.sentence) for run in runs for answer in answers(run)[number][1]]
        datasets = asked_of(study, question)
        drawing = card_figure(study, question, datasets[0]) if datasets else None
        found.append(Card(question.short, question.text, question.page, said, drawing.svg() if drawing else ""))
    return found


def tables_html(study: Study) -> str:
    """The main table of every corpus, text to video, the highest R@1 first; those of the full profile folded away."""
    tables = []
    for run in _runs(study):
        for dataset in run.datasets:
            rows = reported(run.table(dataset), "t2v").sort_values("R@1", ascending=False)
            cells = shown(rows, COLUMNS).reset_index(drop=True)
            heavy = best(cells)
            cells["temporal encoder"] = cells.pop("temporal encoder")  # last, so that a phone shows numbers
            name = html.escape(f"{dataset}, profile {run.profile}")
            table = results_html(cells, TABLE, heavy[[*cells]])
            own = run.profile == study.profile
            tables.append(f"<h3>{name}</h3>{table}" if own else f"<details><summary>{name}</summary>{table}</details>")
    return "".join(tables)


def verdicts_html(study: Study) -> str:
    """The verdicts of the largest run, which decides; where that is another profile, this one's beside them."""
    other = beside(study)
    largest = (other or study).ledger()
    columns = {study.profile: study.ledger()["claims"]} if other else {}
    heading = f"{other.profile} (decides)" if other else study.profile
    table = ledger_html(largest["claims"], run=heading, beside=columns, folded=False)
    ledger = f"{ONCE[-1]}.html"
    more = f'<p><a href="{ledger}">The ledger</a> has every test, its scope, and what stands beside it.</p>'
    return f"<p>{html.escape(largest['answer'])}</p>{table}{more}"


def lead(study: Study) -> str:
    """Which profile this is, and what stands beside it."""
    said = f"Profile {study.profile}: {'; '.join(map(study.about, study.datasets))}."
    return f"{said} The committed results of the profile full stand beside." if beside(study) else said


def facts(study: Study) -> dict:
    """What the numbers rest on."""
    inputs, params = yaml.safe_load(Path("data.dvc").read_text()), Path("params.yaml").read_bytes()
    packages = ("torch", "transformers", "dvc", "papermill", "plotly")
    return {
        "profile": study.profile,
        "commit": commit(),
        "params.yaml": f"sha256 {hashlib.sha256(params).hexdigest()[:16]}",
        "bundled inputs": f"md5 {inputs['outs'][0]['md5']}",
        "times measured on": study.hardware(),
        "report built on": hardware(),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def require_current(notebooks: list[Path]) -> None:
    """Raise ValueError where a notebook was executed with other parameters than those that its stage has last run with.

    That is so after `dvc exp apply`, which brings results and what the stage kept, NOTEBOOK.json, but no pages.
    """
    for notebook in notebooks:
        kept = notebook.with_suffix(".json")
        if notebook.is_file() and kept.is_file():
            executed_with = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]["parameters"]
            if executed_with != json.loads(kept.read_text(encoding="utf-8")):
                raise ValueError(
                    f"{notebook} was executed with other parameters than its results, which an experiment brought; run "
                    "its stage here, `dvc repro --force --single-item STAGE`."
                )


def write_report(study: Study) -> Path:
    """Write reports/<profile>/, the index and a page per notebook, and return the index.

    Raises FileNotFoundError in one sentence where executed notebooks are absent, and what `require_current` raises.
    """
    require_current(executed(study))
    sections = {
        "What was found": found_html(study),
        "The five questions": cards_html(cards(study)),
        "What the paper claims, and what was found": verdicts_html(study),
        "Results": tables_html(study),
        PICTURE_TITLE: pictures_html(study),
    }
    shown = {heading: part for heading, part in sections.items() if part}
    return build_report(executed(study), Path("reports") / study.profile, TITLE, lead(study), shown, facts(study))
