"""How fast heads learn: recall on the validation split from the first step on, and the work and time of a step."""

import shutil
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from glscl.base import MatchingHead, RetrievalModel, load_backbone
from glscl.config import one_of
from glscl.data.dataset import PreparedCorpus, Split
from glscl.encoding import encode_split
from glscl.evaluation.results import describe
from glscl.evaluation.statistics import crossed_interval, holm, paired_difference, seed_interval
from glscl.methods import METHODS, settings_of
from glscl.metrics import RECALLS, per_query
from glscl.report.page import significant
from glscl.scoring import similarity_matrix
from glscl.study.counting import counted, random_features
from glscl.study.processes import one_thread_each
from glscl.study.project import Folders, commit, hardware
from glscl.training.runs import UNFINISHED, train_seeds
from glscl.training.trainer import TrainSettings, train

SUBJECT = "glscl"
SHARE = 0.9  # of the best final recall of any head: the goal that every head is timed to
TIMED_STEPS = 2  # per head and round, after as many untimed ones
TIMED_ROUNDS = 3
KINDS = {"area": "area", "final": "final recall"}  # what GLSCL is compared in
NAMED = 3  # heads; of more an answer says how many, so that it stays short


# --- curves


def step_of(goal: float, steps: Sequence[float], recall: Sequence[float]) -> float | None:
    """The first step at which a curve reaches `goal`, linear between two evaluations; None where it never does.

    steps: (evaluations,), rising. recall: (evaluations,), in the unit of the goal.
    """
    reached = np.asarray(recall, dtype=float) >= goal
    if not reached.any():
        return None
    after = int(reached.argmax())
    if after == 0:
        return float(steps[0])
    (x, x_after), (y, y_after) = steps[after - 1 : after + 1], recall[after - 1 : after + 1]
    return float(x + (x_after - x) * (goal - y) / (y_after - y))


def mean_height(steps: Sequence[float], recall: np.ndarray) -> np.ndarray:
    """Area under curves divided by their steps, by trapezoids: recall averaged over the training, in its own unit.

    steps: (evaluations,), rising. recall: (runs, evaluations, queries) -> (runs, queries).
    """
    return np.trapezoid(recall, steps, axis=1) / (steps[-1] - steps[0])


def over_seeds(each: list[float | None]) -> dict:
    """Mean and 95 % t interval over seeds of a quantity that is never negative: {"mean", "low", "high", "each"}.

    each: one value per seed, None where a seed never got there; then there is no mean. One seed has no interval.
    """
    if None in each:
        return {"mean": None, "low": None, "high": None, "each": each}
    low, high = seed_interval(each) if len(each) > 1 else (None, None)
    return {"mean": float(np.mean(each)), "low": low if low is None else max(0.0, low), "high": high, "each": each}


def difference_of(one: np.ndarray, other: np.ndarray, group: np.ndarray) -> dict:
    """Mean difference, one minus other, of what heads reach with the same seeds and queries: `paired_difference`.

    one, other: (seeds, queries), at least two seeds; a seed draws the same batches in the same order for both. group:
    (queries,). Its interval, `low` to `high`, is that of `crossed_interval`: it holds for new seeds and new queries.
    """
    low, high = crossed_interval(one - other, group)
    return paired_difference(one, other, group) | {"low": low, "high": high}


def significant_sign(difference: dict) -> int:
    """The sign of a difference that is significant, and 0 for any other.

    Significant is a corrected p-value `p_holm` below 0.05 with an interval that leaves 0 out.
    """
    found = difference["p_holm"] < 0.05 and difference["low"] * difference["high"] > 0
    return int(np.sign(difference["difference"])) if found else 0


def query_recalls(model: RetrievalModel, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """What each query adds to `mean_recall`, and its video: twice (queries,), both directions joined.

    A query's value is the mean of its hits at 1, 5 and 10, in percent, weighted so that each direction is one half.
    """
    found = per_query(similarity_matrix(model, *encode_split(model, split)).numpy(), split.video_of_text.numpy())
    depths = np.array([k for k in RECALLS if k <= 10])
    total = sum(len(queries["rank"]) for queries in found.values())
    values, groups = [], []
    for queries in found.values():
        hits = 100 * (queries["rank"][:, None] <= depths - 1).mean(1)
        values.append(hits * total / (2 * len(hits)))
        groups.append(queries["group"])
    return np.concatenate(values), np.concatenate(groups)


def query_curve(start: RetrievalModel, folder: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """`query_recalls` before training and after each epoch whose weights a run kept: (evaluations, queries), videos.

    start: the untrained model, which is given the weights of the last epoch. folder: what `train_seeds` kept of one
    seed, with `keep_epochs`.
    """
    found = [query_recalls(start, split)]
    for file in sorted(folder.glob("after-*.safetensors")):
        start.load_state_dict(start.state_dict() | load_file(file))
        found.append(query_recalls(start, split))
    values, groups = zip(*found, strict=True)
    return np.stack(values), groups[0]


# --- trainings


@dataclass(frozen=True)
class Study:
    """What is trained: heads on one corpus, all for as many steps.

    corpus: with few captions per training video, so that an epoch is short and a curve has many points. heads:
    {name: (method, its settings, how it is trained)}, none where the corpus has no training or validation split.
    rates: learning rates of the head, tried once each with the first seed. short_epochs: of every training. scratch:
    folder of models, deleted once they are evaluated.
    Raises ValueError where heads differ in batch size, and so in what a step is.
    """

    dataset: str
    corpus: PreparedCorpus
    heads: dict[str, tuple[str, dict, TrainSettings]]
    seeds: list[int]
    rates: list[float]
    short_epochs: int
    scratch: Path

    def __post_init__(self):
        sizes = {name: settings.batch_size for name, (_, _, settings) in self.heads.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"the heads of convergence must share one batch size, got {sizes}; take batch_size from methods."
            )

    @classmethod
    def open(
        cls, profile: str, dataset: str, inputs: dict, convergence: dict, methods: dict, train: dict, model: dict
    ) -> "Study":
        """The study that the parameters of the notebook describe."""
        for name in convergence["heads"]:
            one_of("each of convergence.heads", name, tuple(methods))
        clip, backbone, words = (inputs[name] for name in ("clip", "backbone", "words"))
        folder, fewer = Folders.of(profile, dataset).corpus, convergence["captions_per_video"]
        corpus = PreparedCorpus.open(folder, clip, backbone, words, fewer)
        learnable = {"train", "val"} <= set(corpus.captions["split"])  # a few videos of one's own train nothing
        short = {"epochs": convergence["short_epochs"], "keep_epochs": True}
        heads = {
            name: (
                methods[name]["head"],
                settings_of(methods[name]["head"], model | methods[name]["model"]),
                TrainSettings(**(train | methods[name]["train"] | short), backbone=backbone),
            )
            for name in convergence["heads"]
            if learnable
        }
        seeds, rates = convergence["seeds"], list(dict.fromkeys(convergence["rates"]))
        scratch = UNFINISHED / "convergence" / profile / dataset
        return cls(dataset, corpus, heads, seeds, rates, convergence["short_epochs"], scratch)

    @cached_property
    def sizes(self) -> dict[str, dict[str, int]]:
        """Texts and videos of the training and validation split; empty without heads."""
        splits = {name: self.corpus.split(name) for name in ("train", "val") if self.heads}
        return {name: {"texts": len(split), "videos": len(split.videos)} for name, split in splits.items()}

    @property
    def batch_size(self) -> int | None:
        """Pairs of a step."""
        return next((settings.batch_size for _, _, settings in self.heads.values()), None)

    @property
    def steps(self) -> np.ndarray:
        """The steps at which recall is measured, the start among them: (evaluations,)."""
        epoch = self.sizes["train"]["texts"] // self.batch_size if self.heads else 0
        return epoch * np.arange(self.short_epochs + 1)

    def scope(self) -> dict:
        """What the numbers rest on."""
        validation = self.sizes.get("val", {"texts": 0, "videos": 0})
        return {
            "dataset": self.dataset,
            "seeds": self.seeds,
            "split": "val",
            **validation,
            "training": self.sizes.get("train"),
            "backbone": self.corpus.backbone,
            "steps": int(self.steps[-1]),
            "batch_size": self.batch_size,
            "captions_per_video": self.corpus.captions_per_video,
            "rates": self.rates,
        }


class Trained(NamedTuple):
    """What is kept of the trained models.

    ends: recall at the end of each run of the sweep, percent, a row per head and a column per rate. recalls: by head,
    (seeds, evaluations, queries), percent, see `query_recalls`. group: (queries,), the video of each. macs: by head,
    multiply-accumulates of a step. pace: seconds of a step, a row per head, columns median, min and max over rounds.
    """

    ends: pd.DataFrame
    recalls: dict[str, np.ndarray]
    group: np.ndarray
    macs: dict[str, int]
    pace: pd.DataFrame


def train_all(study: Study) -> Trained:
    """Time every head, train it at every rate, and at the rate that ends highest with all seeds; no model is kept.

    A head over a frozen CLIP trains on one thread of the processor, and as many heads at once as there are cores.
    """
    pace = step_seconds(study)
    slow_first = sorted(study.heads, key=pace["median"].get, reverse=True)  # so that no core waits long at the end
    sweep = [(study, name, rate) for name, rate in product(slow_first, study.rates)]
    ends = {(name, rate): end for (_, name, rate), end in zip(sweep, _each(study, rate_end, sweep), strict=True)}
    ends = pd.DataFrame([[ends[name, rate] for rate in study.rates] for name in study.heads], columns=study.rates)
    ends.index = list(study.heads)
    kept = kept_rates(ends)
    runs = _each(study, seed_recalls, [(study, name, kept[name]) for name in slow_first])
    found = dict(zip(slow_first, runs, strict=True))
    shutil.rmtree(study.scratch, ignore_errors=True)
    return Trained(
        ends,
        {name: found[name][0] for name in study.heads},
        next((run[1] for run in runs), np.zeros(0)),
        {name: found[name][2] for name in study.heads},
        pace,
    )


def _each(study: Study, call, jobs: list[tuple]) -> list:
    return one_thread_each(call, jobs) if study.corpus.backbone == "frozen" else [call(*job) for job in jobs]


def kept_rates(ends: pd.DataFrame) -> dict[str, float]:
    """The rate that each head keeps: that which ends highest, the first of equals. ends: as in `Trained`."""
    return {name: max(ends.columns, key=row.get) for name, row in ends.iterrows()}


def rate_end(study: Study, name: str, rate: float) -> float:
    """Mean recall of one head on the validation split at the end of a training at this rate, percent; first seed."""
    return _curve(study, name, rate, study.seeds[0], study.scratch / name / f"{rate:g}")[-1]


def seed_recalls(study: Study, name: str, rate: float) -> tuple[np.ndarray, np.ndarray, int]:
    """One head at this rate with all seeds: recalls (seeds, evaluations, queries), videos, and MACs of a step.

    Raises RuntimeError where the weights that an epoch kept do not give the recall that its training reported.
    """
    method, chosen, settings = study.heads[name]
    validation, values = study.corpus.split("val"), []
    for seed in study.seeds:
        folder = study.scratch / name / f"seeds/{seed}"
        curve = _curve(study, name, rate, seed, folder)
        start = untrained(method, chosen, study.corpus, validation.frames, seed)
        found, group = query_curve(start, folder / f"seed-{seed}", validation)
        if not np.allclose(found[1:].mean(1), curve):
            raise RuntimeError(
                f"the kept weights of {name}, seed {seed}, should give the recalls {curve} of its training, got "
                f"{found[1:].mean(1).tolist()}; delete work/.unfinished and run again."
            )
        values.append(found)
        shutil.rmtree(folder)
    return np.stack(values), group, training_macs(start.head, settings.batch_size)


def _curve(study: Study, name: str, rate: float, seed: int, folder: Path) -> list[float]:
    method, chosen, settings = study.heads[name]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # a line per epoch and model would bury the page
        curve, _ = train_seeds(method, chosen, study.corpus, replace(settings, lr_new=rate), [seed], folder)
    return curve["val_mean_recall"].tolist()


def untrained(method: str, settings: dict, corpus: PreparedCorpus, frames: int, seed: int) -> RetrievalModel:
    """The model that `train_seeds` starts from with the same arguments, in evaluation mode, on the GPU if any."""
    torch.manual_seed(seed)
    sizes = {"words": corpus.processor.words, "frames": frames}
    clip = load_backbone(corpus.clip, corpus.backbone, corpus.processor)
    model = METHODS[method].from_clip(clip, **settings, **sizes).eval()
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


# --- the work and time of a step


def training_macs(head: MatchingHead, batch_size: int) -> int:
    """Multiply-accumulates of one training step on cached features: forward and backward, as torch counts them.

    Counted are the matrix products of a batch without padding, of the head as it is trained, its loss among them. CLIP,
    the optimiser and whatever is no matrix product are left out, and so are, for the normalised contrastive loss,
    recent batches.
    """
    sentence, words, word_mask, frames, frame_mask = random_features(head.config, batch_size)
    fresh = type(head)(head.config).train()

    def step():
        loss = fresh.loss(fresh.encode_texts(sentence, words, word_mask), fresh.encode_videos(frames, frame_mask))
        loss["total"].backward()

    return counted(step)


def step_seconds(study: Study) -> pd.DataFrame:
    """Seconds of one training step, a row per head, columns median, min and max over rounds in which heads take turns.

    Nothing else of the study runs meanwhile. A head over a frozen CLIP has one thread of the processor, as in training.
    """
    pace: dict[str, list[float]] = {name: [] for name in study.heads}
    threads = torch.get_num_threads()
    if study.corpus.backbone == "frozen":
        torch.set_num_threads(1)
    try:
        if study.heads:
            whole, validation = study.corpus.split("train"), study.corpus.split("val").sample(8)
            few = whole.sample(TIMED_STEPS * study.batch_size)
            few = few if len(few) >= study.batch_size else whole  # of few videos with many captions
        for _, name in product(range(TIMED_ROUNDS), study.heads):
            pace[name].append(_seconds(study, name, few, validation))
    finally:
        torch.set_num_threads(threads)
    found = {name: (np.median(each), min(each), max(each)) for name, each in pace.items()}
    return pd.DataFrame.from_dict(found, "index", columns=["median", "min", "max"])


def _seconds(study: Study, name: str, data: Split, validation: Split) -> float:
    method, chosen, settings = study.heads[name]
    model = untrained(method, chosen, study.corpus, validation.frames, seed=0)
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        train(model, data, validation, replace(settings, epochs=2, keep_epochs=False), 0, Path(folder), progress=False)
        clock = pd.read_csv(Path(folder) / "clock.csv")
    return clock["seconds"].iloc[-1] / (len(data) // settings.batch_size)  # the first epoch warms up


# --- results


def results_of(study: Study, trained: Trained) -> dict:
    """Every deterministic number of the study, as convergence.json keeps it, with `answer` and `details`."""
    steps, kept = study.steps, kept_rates(trained.ends)
    finals = {name: runs[:, -1] for name, runs in trained.recalls.items()}  # (seeds, queries)
    areas = {name: mean_height(steps, runs) for name, runs in trained.recalls.items()}
    common_best = max((values.mean() for values in finals.values()), default=None)
    goal = None if common_best is None else SHARE * common_best
    heads = {}
    for name, runs in trained.recalls.items():
        crossed = [step_of(goal, steps, run) for run in runs.mean(2)]
        heads[name] = {
            "lr": kept[name],
            "start": over_seeds(runs[:, 0].mean(1).tolist()),
            "sweep": trained.ends.loc[name].to_dict(),
            "best": over_seeds(finals[name].mean(1).tolist()),
            "area": over_seeds(areas[name].mean(1).tolist()),
            "steps_to_90": over_seeds(crossed),
            "macs_to_90": over_seeds([None if step is None else step * trained.macs[name] for step in crossed]),
            "reached": sum(step is not None for step in crossed),
            "macs_per_step": trained.macs[name],
        }
    differences = against_subject({"area": areas, "final": finals}, trained.group)
    found = {"scope": study.scope(), "heads": heads, "common_best": common_best, "goal": goal}
    found |= {"differences": differences}
    found |= {"verdicts": {rival: significant_sign(each["area"]) for rival, each in differences.items()}}
    return found | {"answer": answer(found), "details": details(found)}


def against_subject(reached: dict[str, dict[str, np.ndarray]], group: np.ndarray) -> dict[str, dict[str, dict]]:
    """GLSCL minus every other head: {head: {kind: `difference_of` with `p_holm`}}; Holm's correction is over heads.

    reached: {kind: {head: (seeds, queries)}}. Empty without GLSCL, and for a single seed.
    """
    of_heads = next(iter(reached.values()))
    if SUBJECT not in of_heads or len(of_heads[SUBJECT]) < 2:
        return {}
    found = {
        rival: {kind: difference_of(of[SUBJECT], of[rival], group) for kind, of in reached.items()}
        for rival in of_heads
        if rival != SUBJECT
    }
    for kind in reached:
        for each, p in zip(found.values(), holm([each[kind]["p"] for each in found.values()]), strict=True):
            each[kind]["p_holm"] = p
    return found


def curves_of(study: Study, trained: Trained) -> pd.DataFrame:
    """Learning curves as convergence.csv keeps them: method, seed, step, val_mean_recall (percent), macs so far."""
    rows = [
        {"method": name, "seed": seed, "step": step, "val_mean_recall": recall, "macs": step * trained.macs[name]}
        for name, runs in trained.recalls.items()
        for seed, run in zip(study.seeds, runs.mean(2), strict=True)
        for step, recall in zip(study.steps.tolist(), run.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "val_mean_recall", "macs"])


def with_seconds(curves: pd.DataFrame, measured: dict) -> pd.DataFrame:
    """The curves with a column seconds: training time so far on this machine, as `measured_of` has it."""
    pace = {name: seconds["median"] for name, seconds in measured["seconds_per_step"].items()}
    return curves.assign(seconds=curves["step"] * curves["method"].map(pace))


def measured_of(study: Study, trained: Trained, results: dict) -> dict:
    """What this machine measured, as measured/convergence.json keeps it.

    Seconds of a step, and to the goal as `over_seeds`; commit and hardware. Seconds so far are steps times the median.
    """
    pace, heads = trained.pace, results["heads"]
    to_90 = {
        name: over_seeds([None if s is None else s * pace.loc[name, "median"] for s in found["steps_to_90"]["each"]])
        for name, found in heads.items()
    }
    found = {
        "commit": commit(),
        "hardware": hardware(),
        "seconds_per_step": {name: pace.loc[name].to_dict() for name in heads},
        "seconds_to_90": to_90,
    }
    took = [
        f"{name} {seconds['mean']:.1f} s"
        for name, seconds in sorted(to_90.items(), key=lambda one: one[1]["mean"] or 0)
        if seconds["mean"] is not None and name in (SUBJECT, quickest(heads))
    ]
    said = f"On this machine, training to the goal takes {' and '.join(took)}." if took else None
    return found | {"details": [said] if said else []}


def quickest(heads: dict[str, dict]) -> str | None:
    """The head that reaches the goal in the fewest steps, GLSCL left out; None where none does with every seed."""
    there = {name: found["steps_to_90"]["mean"] for name, found in heads.items() if name != SUBJECT}
    there = {name: steps for name, steps in there.items() if steps is not None}
    return min(there, key=there.get, default=None)


def _named(heads: list[str]) -> str:
    if len(heads) > NAMED:
        return f"{len(heads)} heads"
    return " and ".join([", ".join(heads[:-1]), heads[-1]] if len(heads) > 1 else heads)


def answer(results: dict) -> str:
    """Than which heads GLSCL learns significantly faster or more slowly, in one sentence.

    results: as `results_of` makes them; of them `scope`, `heads` and `verdicts`.
    """
    dataset, verdicts = results["scope"]["dataset"], results["verdicts"]
    if not results["heads"]:
        return f"{dataset} has no training and validation split, so nothing was trained."
    if not verdicts:
        return f"On {dataset}, GLSCL was compared with no head."
    clauses = []
    for word, sign in (("faster", 1), ("slower", -1)):
        if those := [head for head, found in verdicts.items() if found == sign]:
            clauses.append(f"{word} than {_named(those)}")
    others = [head for head, found in verdicts.items() if found == 0]
    if not clauses:
        return (
            f"Per training step on {dataset}, GLSCL learns neither significantly faster nor significantly slower than "
            f"{_named(others)}."
        )
    who = _named(others) if len(verdicts) <= NAMED + 1 else f"{len(others)} other{'s' * (len(others) > 1)}"
    rest = f"; {who}: no significant difference" if others else ""
    return f"Per training step on {dataset}, GLSCL learns significantly {', '.join(clauses)}{rest}."


def details(results: dict) -> list[str]:
    """What else was found, sentence by sentence: differences in area, the way to the goal, and what all rests on."""
    scope, heads, goal = (results[name] for name in ("scope", "heads", "goal"))
    if not heads:
        return []
    sentences = [
        f"GLSCL minus {rival} in area under the validation curve: "
        f"{describe(*(each['area'][part] for part in ('difference', 'low', 'high')))} points."
        for rival, each in results["differences"].items()
    ]
    for name in (SUBJECT, quickest(heads)):
        if name in heads and heads[name]["steps_to_90"]["mean"] is not None:
            steps, macs = (heads[name][f"{what}_to_90"]["mean"] for what in ("steps", "macs"))
            which = "GLSCL" if name == SUBJECT else f"{name}, quickest of the others,"
            sentences.append(
                f"To {goal:.1f} %, 90 % of the best final recall, {which} takes {steps:.0f} steps and "
                f"{macs / 1e9:,.0f} GMACs."
            )
    if never := [name for name, found in heads.items() if found["reached"] < len(scope["seeds"])]:
        sentences.append(f"Not every seed gets there with {_named(never)}.")
    return [
        *sentences,
        f"Mean recall of {scope['texts']:,} validation texts and {scope['videos']:,} videos, {len(scope['seeds'])} "
        f"seeds; every head at its best of {len(scope['rates'])} learning rates.",
    ]


# --- tables


def about(scope: dict) -> str:
    """Caption of what recalls rest on."""
    return (
        f"{scope['dataset']}, {scope['texts']:,} validation texts, {scope['videos']:,} videos; seeds {scope['seeds']}; "
        f"{scope['steps']} steps of {scope['batch_size']} pairs"
    )


def sweep_table(results: dict) -> pd.DataFrame:
    """Recall at the end of each run of the sweep by head and rate, and the rate that the head keeps."""
    rates, rows = results["scope"]["rates"], []
    for name, found in results["heads"].items():
        edge = ", at the edge" if found["lr"] in (min(rates), max(rates)) else ""
        rows.append({"head": name} | {f"{rate:g}": found["sweep"][rate] for rate in rates})
        rows[-1]["kept"] = f"{found['lr']:g}{edge}"
    return pd.DataFrame(rows)


def head_table(results: dict, measured: dict) -> pd.DataFrame:
    """Recall at the start, at the end and on average; steps, seconds and GMACs to the goal; means over seeds."""
    rows = []
    for name, found in results["heads"].items():
        row = {"head": name}
        for column, key in (("start", "start"), ("end", "best"), ("area", "area")):
            row[column] = describe(*(found[key][part] for part in ("mean", "low", "high")))
        to_goal = {"steps": (found["steps_to_90"], 1), "seconds": (measured["seconds_to_90"][name], 1)}
        for column, (value, unit) in (to_goal | {"GMACs": (found["macs_to_90"], 1e9)}).items():
            parts = [None if value[part] is None else value[part] / unit for part in ("mean", "low", "high")]
            reached = f"{found['reached']} of {len(results['scope']['seeds'])} seeds"
            row[column] = reached if parts[0] is None else describe(*parts)
        rows.append(row)
    return pd.DataFrame(rows)


def step_table(results: dict, measured: dict) -> pd.DataFrame:
    """What one step costs each head: milliseconds, median with the extremes of all rounds, and GMACs."""
    rows = []
    for name, pace in measured["seconds_per_step"].items():
        median, low, high = (significant(1e3 * pace[part]) for part in ("median", "min", "max"))
        work = significant(results["heads"][name]["macs_per_step"] / 1e9)
        rows.append({"head": name, "ms per step": f"{median} [{low}, {high}]", "GMACs per step": work})
    return pd.DataFrame(rows)


def difference_table(results: dict) -> pd.DataFrame:
    """GLSCL minus each head in area and in final recall, with corrected p and the minimum detectable effect."""
    rows = []
    for (kind, text), (rival, each) in product(KINDS.items(), results["differences"].items()):
        found = each[kind]
        row = {"GLSCL minus": rival, "of": text}
        row["points"] = describe(*(found[part] for part in ("difference", "low", "high")))
        row |= {"p (Holm)": f"{found['p_holm']:.3f}", "minimum detectable effect": f"{found['detectable']:.1f}"}
        rows.append(row | {"by seed": ", ".join(f"{points:.1f}" for points in found["seeds"])})
    return pd.DataFrame(rows)
