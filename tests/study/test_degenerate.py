"""Results of which little can be told: one query, one seed, one method, equal scores, no hit, nothing trained.

Made-up runs go through every answer, into JSON, through every cell of a notebook that shows them, and into the ledger.
"""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glscl.evaluation.comparisons import ZERO_SHOT
from glscl.evaluation.results import Run, differences, rows
from glscl.evaluation.statistics import not_above
from glscl.evaluation.twins import twin_table
from glscl.files import write_json
from glscl.metrics import per_query
from glscl.report.figures.overview import overview
from glscl.study import benchmarks, cards, claims, evaluation, loss_tables, summary, transfer_results, worlds
from glscl.study import convergence_numbers as numbers
from glscl.study import convergence_tables as tables
from glscl.study.answers import points
from glscl.study.convergence import Trained
from glscl.study.evidence import VERDICTS, read_evidence
from glscl.study.loss_results import results_of as losses_of
from glscl.study.losses import LOCAL, PARTS, Measured, conditions
from glscl.study.project import Folders
from glscl.study.published import published
from glscl.study.transfer import STARTS, UNTRAINED, Evaluated
from tests import ROOT
from tests.study import made_up, made_up_profile
from tests.study.test_losses import MODEL

PAPERS = published(ROOT / "results/published.csv")
LAYERS = {"clip4clip_seqTransf": 2, "t_mass": 0, "t_mass_temporal": 2, "x_clip": 2, "glscl": 2, "cross_encoder": 2}
REAL = [claim.key for claim in claims.CLAIMS if claim.real]
SCORES = ("equal", "right", "wrong", "random")
few = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Case(SimpleNamespace):
    """What was measured: methods, seeds, the video of every text, and how each method scores, one of `SCORES`."""

    dataset = "made"

    def scores(self, name: str, seed: int) -> np.ndarray:
        """(texts, videos)."""
        right = np.eye(self.videos)[self.video_of_text]
        drawn = np.random.default_rng([seed, len(name)]).normal(size=right.shape)
        return {"equal": 0 * right, "right": right, "wrong": -right, "random": drawn}[self.kinds[name]]

    @property
    def videos(self) -> int:
        return max(self.video_of_text) + 1

    @property
    def group(self) -> np.ndarray:
        return np.array(self.video_of_text)

    def split(self) -> SimpleNamespace:
        captions = pd.DataFrame({"video": [f"v{number}" for number in self.video_of_text], "split": "test"})
        captions["caption_id"] = captions.index
        return Split(captions=captions, videos=captions["video"].unique(), video_of_text=np.array(self.video_of_text))


class Split(SimpleNamespace):
    def __len__(self):
        return len(self.captions)


@st.composite
def cases(draw, methods=tuple(LAYERS), least_seeds=1, least_videos=1):
    """Up to 4 texts of up to 3 videos, up to 3 seeds, and any of the methods."""
    videos = draw(st.integers(least_videos, 3))
    more = draw(st.lists(st.integers(0, videos - 1), max_size=1))
    return Case(
        methods=draw(st.lists(st.sampled_from(methods), unique=True)),
        seeds=list(range(draw(st.integers(least_seeds, 3)))),
        video_of_text=[*range(videos), *more],
        kinds={name: draw(st.sampled_from(SCORES)) for name in (*methods, ZERO_SHOT)},
    )


def show(notebook: str, **computed) -> None:
    """Run the cells of a notebook after the one that computes, and require that no text shows a missing number."""
    cells = json.loads((ROOT / f"notebooks/{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [
        cell for cell in cells if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])
    ]
    first, *others = ("".join(cell["source"]) for cell in code)
    names = {}
    exec(first.partition("enter_project(")[0], names)
    names |= {"provenance": lambda **about: None, "write_json": lambda *_: None} | computed
    for source in others:
        exec(source, names)
        try:
            shown = eval(source.strip().splitlines()[-1], names)
        except SyntaxError:
            continue
        if hasattr(shown, "_repr_html_") and not hasattr(shown, "to_json"):
            assert not re.search(r">(nan|None|inf)\b|\bnan[ ,\]]", shown.data), (source, shown.data)


def require_sentences(found: dict) -> None:
    """Require an answer and details in sentences of at most 25 words, without a missing number."""
    for sentence in [found["answer"], *found["details"]]:
        assert sentence.endswith(".")
        assert len(sentence.split()) <= 25, sentence
        assert not re.search(r"\b(nan|None|inf)\b", sentence), sentence


def require_card(stage: str, found: dict) -> None:
    """Require that the small figure of a question, if there is one, shows no missing number."""
    card = cards.FIGURES[stage](None, found, "made")
    assert card is None or "nan" not in card.svg()


# --- what the stages would find


def evaluated(case: Case) -> evaluation.Evaluation:
    """As `evaluate_study` puts it together."""
    runs = [
        Run(name, "test", seed, "selected", per_query(case.scores(name, seed), case.group))
        for name in case.methods
        for seed in case.seeds
    ]
    runs.append(Run(ZERO_SHOT, "test", None, "none", per_query(case.scores(ZERO_SHOT, 0), case.group)))
    split, layers = case.split(), {name: LAYERS[name] for name in case.methods}
    table = evaluation.full_table(runs, SimpleNamespace(splits={"test": split}, tests=["test"]), layers)
    every = rows(runs, {"test": split}, missing=0)
    every["logit_scale"] = np.nan
    others = [name for name in case.methods if name != "glscl"] if "glscl" in case.methods else []
    over = evaluation.over_controls(runs, dict.fromkeys(case.methods, ZERO_SHOT))
    hits = {name: np.stack([case.scores(name, seed).argmax(1) == case.group for seed in case.seeds]) for name in layers}
    metrics = {
        "methods": evaluation._by_method(table),
        "glscl_minus": differences(runs, "glscl", others, evaluation.COMPARED),
        "over_control": over,
        "did_not_train": [name for name, gain in over.items() if not_above(gain)],
        "ceilings": {},
        "twins": {name: twin_table({"order": of}, {"order": case.group}) for name, of in hits.items()},
        "temporal_layers": layers,
        "added": evaluation.added(table),
        "half_precision": {},
        "reranking": {"first_stage": ZERO_SHOT, "depth": 1, "methods": {n: {} for n in layers if n == "cross_encoder"}},
    }
    counts = {"texts": len(split), "videos": len(split.videos), "seeds": len(case.seeds)}
    said = evaluation.answer(case.dataset, table, metrics["glscl_minus"], layers, **counts)
    metrics["answer"], metrics["details"] = said
    return evaluation.Evaluation(runs, evaluation.rank_table(runs, {"test": split}), table, every, metrics, {})


def compared(case: Case, folders: Folders) -> tuple[benchmarks.Results, dict]:
    """As notebook 08 does, from the files that notebook 04 wrote."""
    folders.corpus.mkdir(parents=True, exist_ok=True)
    case.split().captions.to_parquet(folders.corpus / "captions.parquet")
    evaluated(case).write(folders)
    papers = ROOT / "results/published.csv"
    results = benchmarks.Results.read(folders, case.dataset, "frozen", case.methods, case.seeds, papers)
    return results, benchmarks.compare(results)


class Doses(SimpleNamespace):
    """A study of losses with few parts, variants and doses."""

    model, dataset = MODEL, "made"

    def model_of(self, condition):
        return MODEL | condition.changed

    def scope(self):
        about = {"dataset": "made", "texts": len(self.case.group), "videos": self.case.videos, "validation_texts": 1}
        about |= {"seeds": self.case.seeds, "variants": self.variants, "steps": 1, "batch_size": 2, "concepts": 4}
        return about | {"training_texts": 2, "rate": 1e-3}


def dosed(case: Case, parts: list[str], variants: list[str], alpha: list[float]) -> dict:
    """Results of losses, with concepts that are all alike, where every condition scores as GLSCL does."""
    found = conditions(MODEL, variants, parts, {"alpha": alpha, "beta": [], "dropout": []}, False)
    split = Split(captions=case.split().captions, videos=case.split().videos)
    split.video_of_text = SimpleNamespace(numpy=lambda: case.group)
    corpus = SimpleNamespace(split=lambda name: split)
    study = Doses(case=case, corpus=corpus, conditions=found, variants=variants, parts=parts, seeds=case.seeds)
    runs = []
    for condition in found:
        for seed in case.seeds:
            texts = {name: np.ones(len(case.group)) for name in ("matched", "wrong_pair", "within_text", "rank_text")}
            items = texts | {name: np.ones(case.videos) for name in ("within_video", "rank_video")}
            ranks = per_query(case.scores("glscl", seed), case.group)["t2v"]["rank"]
            seen = dict.fromkeys(("within_train", "within_eval", "hinge_train", "hinge_eval"), 0.0)
            steps = [{"step": 0, "rank_text": 1.0, "rank_video": 1.0}]
            runs.append(Measured(condition.label, seed, ranks, items, seen, {"contrastive": 0.0}, {}, steps))
    return losses_of(study, runs, PAPERS)


def learned(case: Case, steps: list[int]) -> tuple:
    """Study, results, measured and curve of convergence, as notebook 10 does."""
    heads = {name: (name, {}, SimpleNamespace(lr_new=1e-3)) for name in case.methods}
    about = {"dataset": case.dataset, "seeds": case.seeds, "texts": 1, "videos": 1, "steps": steps, "batch_size": 2}
    study = SimpleNamespace(heads=heads, seeds=case.seeds, steps=steps, scope=lambda: about)

    def run(name: str, seed: int) -> np.ndarray:
        closed = np.array(steps) / (np.array(steps) + 3.0)
        shapes = {
            "equal": 50 + 0 * closed,
            "right": 100 + 0 * closed,
            "wrong": 0 * closed,
            "random": 90 * closed + seed,
        }
        return shapes[case.kinds[name]]

    r1 = {name: np.stack([run(name, seed) for seed in case.seeds]) for name in case.methods}
    pace = pd.DataFrame.from_dict(dict.fromkeys(heads, (0.1, 0.1, 0.1)), "index", columns=["median", "min", "max"])
    trained = Trained(r1, dict.fromkeys(heads, 1000), pace)
    curves = numbers.curves_of(study, trained)
    results, measured = numbers.results_of(study, trained, curves), numbers.measured_of(trained, curves)
    results |= {"answer": tables.answer(results), "details": tables.details(results)}
    measured |= {"details": tables.measured_details(results, measured)}
    return study, results, measured, numbers.curve_table(study, trained, curves)


def carried(case: Case) -> tuple:
    """Study, what was evaluated, and results of a transfer to one target."""

    def queries(name, seed):
        return per_query(case.scores(name, seed), case.group)

    runs = [Run(n, "look", s, start, queries(n, s)) for n in case.methods for s in case.seeds for start in STARTS]
    runs.append(Run(UNTRAINED, "look", None, UNTRAINED, queries(ZERO_SHOT, 0)))
    few_shot = {"few_videos": 1, "few_epochs": 1, "methods": lambda: {name: name for name in case.methods}}
    study = SimpleNamespace(dataset="made", shifts={}, seeds=case.seeds, heads=case.methods, **few_shot)
    found = Evaluated(runs if case.methods else [], {"look": []} if case.methods else {}, [])
    return study, found, transfer_results.results_of(study, found)


# --- tests


@pytest.fixture
def folders(tmp_path) -> Folders:
    return Folders(*(tmp_path / name for name in ("corpus", "described", "work", "results", "measured")))


@few
@given(case=cases())
def test_evaluate_and_benchmarks(folders, case):
    found = evaluated(case)
    require_sentences(found.metrics)
    show("04_evaluate", found=found, methods=case.methods, seeds=case.seeds)
    stages = {"costs": made_up_profile.costs(), "metrics": found.metrics}
    methods = {name: {"head": made_up_profile.METHODS.get(name, "t_mass")} for name in case.methods}
    study = SimpleNamespace(
        table=lambda _: found.table, found=lambda name, *_: stages[name], settings={"methods": methods}
    )
    if dots := points(study, case.dataset):
        assert "nan" not in overview(dots, 800, 1_000).svg()
    results, compared_ = compared(case, folders)
    write_json(folders.results / "benchmarks.json", compared_)
    require_sentences(compared_)
    require_card("benchmarks", compared_)
    names = {"dataset": case.dataset, "methods": case.methods, "rerankers": []}
    show("08_benchmarks", results=results, found=compared_, **names)


@few
@given(
    case=cases(methods=("glscl",), least_seeds=2, least_videos=2),
    parts=st.lists(st.sampled_from(list(PARTS)), unique=True),
    variants=st.sampled_from([["released"], ["described"], ["released", "described"]]),
    alpha=st.sampled_from([[], [1.0]]),
)
def test_losses(case, parts, variants, alpha, tmp_path):
    results = dosed(case, parts, variants, alpha)
    write_json(tmp_path / "losses.json", results)
    require_sentences(results)
    require_card("losses", results)
    study = SimpleNamespace(model=MODEL)
    captions = dict(zip(("on_test", "on_validation"), loss_tables.captions(results["scope"]), strict=True))
    show("09_losses", results=results, study=study, papers=PAPERS, **captions)


@few
@given(case=cases(), steps=st.sampled_from([[0, 1], [0, 2, 4, 8, 16, 20]]))
def test_convergence(case, steps, tmp_path):
    study, results, measured, curve = learned(case, steps)
    write_json(tmp_path / "convergence.json", results)
    write_json(tmp_path / "measured.json", measured)
    require_sentences(results)
    rests_on = tables.about(results["scope"])
    show("10_convergence", study=study, results=results, measured=measured, curve=curve, rests_on=rests_on)


@few
@given(case=cases())
def test_transfer(case, tmp_path):
    study, found, results = carried(case)
    write_json(tmp_path / "transfer.json", results)
    require_sentences(results)
    require_card("transfer", results)
    show("11_transfer", study=study, evaluated=found, results=results, rests_on="made up")


@few
@given(case=cases(methods=("x_clip", "glscl")))
def test_worlds(case, tmp_path):
    found = {}
    if case.methods:
        hits = {
            n: np.stack([100.0 * (case.scores(n, s).argmax(1) == case.group) for s in case.seeds]) for n in case.methods
        }
        ceilings = {kind: {"R@1": 100.0} for kind in worlds.KINDS}
        found["two"] = worlds.Found(ceilings, hits, np.zeros((1, len(case.group))), case.group)
    study = SimpleNamespace(dataset="made", seeds=case.seeds, changed={name: {} for name in found})
    results = worlds.results_of(study, found)
    write_json(tmp_path / "worlds.json", results)
    require_sentences(results)
    show("04_worlds", study=study, results=results)


@few
@given(case=cases(), benchmark=st.sampled_from(["none", "MSR-VTT-1kA"]), asked=st.booleans(), timed=st.booleans())
def test_ledger(folders, case, benchmark, asked, timed):
    found = compared(case, folders)[1]
    found["scope"]["benchmark"] = benchmark
    stages = {"metrics": evaluated(case).metrics, "benchmarks": found}
    seed = {"matched": 0.0, "wrong_pair": 0.0, "rank_text": 1.0, "rank_video": 1.0}
    if "glscl" in case.methods:
        stages["concepts"] = {"seeds": {str(number): seed for number in case.seeds}, "concepts": 4}
    if asked:
        stages |= {"convergence": learned(case, [0, 1, 2, 4, 8])[1], "transfer": carried(case)[2]}
        if "glscl" in case.methods and len(case.seeds) > 1 and case.videos > 1:
            stages["losses"] = dosed(case, ["inter-consistency", LOCAL], ["released"], [])
    results = folders.results.parent / "quick"
    for name, content in stages.items():
        write_json(results / f"made/{name}.json", content)
    write_json(results / "costs.json", made_up.costs())
    shutil.copy(ROOT / "results/published.csv", results.parent)
    evidence = read_evidence("quick", ["made"], ["made"], made_up.WEIGHTS, results.parent)
    if timed:
        evidence = evidence._replace(measured_costs=made_up.measured_costs())
    ledger, measured = claims.judged(evidence, "quick"), claims.measured_context(evidence)
    require_sentences(ledger)
    for part, content in {"ledger": ledger, "context": measured}.items():
        write_json(results / f"{part}.json", content)
    assert {claim["verdict"] for claim in ledger["claims"]} <= set(VERDICTS)
    shown = SimpleNamespace(datasets=["made"], table=lambda _: pd.read_csv(folders.results / "table.csv"))
    few_numbers = summary.numbers(shown, evidence, ledger)
    write_json(results / "summary.json", few_numbers)
    assert (few_numbers["r1"]["glscl"] is not None) == ("glscl" in case.methods)
    assert sum(few_numbers["claims"].values()) == len(ledger["claims"])
    given = {"Study": SimpleNamespace(read=lambda *_: None), "study": None, "write_summary": lambda *_: None}
    given |= {"ledger": ledger, "context": measured, "evidence": evidence, "weights": made_up.WEIGHTS}
    show("12_ledger", profile="quick", **given)
    if case.videos == 1 or not case.methods:
        real = [claim for claim in ledger["claims"] if claim["key"] in REAL]
        assert {claim["verdict"] for claim in real} <= {"not decided here", "needs the real benchmark"}
