"""What the learning curves of convergence come to: the answer, further sentences, and tables."""

import math

import pandas as pd

from glscl.evaluation.results import describe
from glscl.report.names import name_of
from glscl.report.page import p_value, significant
from glscl.study.convergence_numbers import SUBJECT

RIVAL = (
    "x_clip"  # attention over words and frames, with which the paper compares; named in advance, where it is trained
)
NAMED = 3  # heads; of more a sentence says how many, so that it stays short
QUANTITIES = {
    "rate": "rate",
    "steps_to_goal": "steps to the goal",
    "macs_to_goal": "multiply-accumulates to the goal",
}


def answer(results: dict) -> str:
    """Start, asymptote and rate of GLSCL and of one rival, in one sentence of at most 25 words.

    results: as `glscl.study.convergence_numbers.results_of` makes them. The rival is `RIVAL`, or else the first head.
    """
    scope, heads = results["scope"], results["heads"]
    where, others = f"On {scope['dataset']}", [name for name in heads if name != SUBJECT]
    if not heads:
        return f"{scope['dataset']} has no training, validation and test split, so nothing was trained."
    if SUBJECT not in heads or not others:
        return f"{where}, GLSCL was compared with no head."
    rival = RIVAL if RIVAL in heads else others[0]
    own, other = heads[SUBJECT], heads[rival]
    if not (own["half"] and other["half"]):
        return (
            f"{where}, no asymptote was fitted for every seed: GLSCL goes from R@1 {_range(own, 'end')} in "
            f"{scope['steps'][-1]} steps, {name_of(rival)} from {_range(other, 'end')}."
        )
    sooner = {1: "significantly sooner", -1: "significantly later", 0: "no significant difference"}
    rate = results["differences"][rival]["rate"]
    told = sooner[significant_sign(rate)] if rate else "one seed tells no difference"
    return (
        f"{where}, GLSCL closes half of its R@1 gap ({_range(own, 'asymptote')}) in {own['half']['mean']:.0f} steps, "
        f"{name_of(rival)} ({_range(other, 'asymptote')}) in {other['half']['mean']:.0f}: {told}."
    )


def _range(head: dict, upper: str) -> str:
    return f"{head['start']['mean']:.1f} to {head[upper]['mean']:.1f}"


def significant_sign(ratio: dict | None) -> int:
    """The sign of a log-ratio whose corrected p-value `p_holm` is below 0.05, and 0 for any other."""
    return int(math.copysign(1, ratio["difference"])) if ratio and ratio["p_holm"] < 0.05 else 0


def details(results: dict) -> list[str]:
    """What else was found, sentence by sentence: starts, asymptotes, rates, the way to the goal, what it rests on."""
    scope, heads = results["scope"], results["heads"]
    if not heads:
        return []
    sentences = [
        *_spread("Untrained R@1", heads, "start"),
        *_spread("Fitted asymptotes", heads, "asymptote"),
        *_rates(results["differences"]),
        *_to_goal(results),
    ]
    count = len(scope["seeds"])
    if unknown := [name for name, found in heads.items() if found["fitted"] < count]:
        sentences.append(f"Not every seed determines a curve with {_named(unknown)}.")
    return [
        *sentences,
        f"R@1 of {scope['texts']:,} test texts among {scope['videos']:,} videos, {count} seeds; every head at the "
        "learning rate that validation chose.",
    ]


def _spread(what: str, heads: dict[str, dict], key: str) -> list[str]:
    """GLSCL's value and the lowest and highest of the others."""
    values = {name: found[key]["mean"] for name, found in heads.items() if found[key]}
    own = [f"GLSCL {values.pop(SUBJECT):.1f}"] if SUBJECT in values else []
    if values:
        low, high = min(values, key=values.get), max(values, key=values.get)
        ends = [f"{name_of(name)} {values[name]:.1f}" for name in dict.fromkeys((low, high))]
        own.append("others " + " to ".join(ends) if len(ends) > 1 else ends[0])
    return [f"{what}: {'; '.join(own)}."] if own else []


def _rates(differences: dict[str, dict]) -> list[str]:
    """Which heads close half of their gap significantly sooner or later than GLSCL."""
    signs = {name: significant_sign(each["rate"]) for name, each in differences.items() if each["rate"]}
    clauses = [
        f"{word} with {_named(those)}"
        for word, sign in (("sooner", 1), ("later", -1), ("not significantly sooner or later", 0))
        if (those := [name for name, found in signs.items() if found == sign])
    ]
    return [f"Half of the own gap is closed, against GLSCL: {'; '.join(clauses)}."] if clauses else []


def _to_goal(results: dict) -> list[str]:
    heads, goal, count = results["heads"], results["goal"], len(results["scope"]["seeds"])
    if goal is None:
        return ["Some head ends below R@1 5, so that there is no common goal."]
    sentences = []
    for name, found in _own_and_soonest(heads):
        which = "GLSCL takes" if name == SUBJECT else f"{name_of(name)}, soonest of the others, takes"
        steps, gmacs = found["steps_to_goal"]["mean"], found["macs_to_goal"]["mean"] / 1e9
        sentences.append(f"To R@1 {goal:.0f}, which every head reaches, {which} {steps:.0f} steps, {gmacs:,.0f} GMACs.")
    if never := [name for name, found in heads.items() if found["reached"] < count]:
        sentences.append(f"Not every seed gets there with {_named(never)}.")
    if above := [n for n, found in heads.items() if found["steps_to_goal"] and found["steps_to_goal"]["mean"] == 0]:
        sentences.append(f"Untrained, {_named(above)} is there already.")
    return sentences


def _own_and_soonest(heads: dict[str, dict]) -> list[tuple[str, dict]]:
    """GLSCL and the head that needs the fewest steps to the goal among the others, where every seed gets there."""
    there = {name: found["steps_to_goal"]["mean"] for name, found in heads.items() if found["steps_to_goal"]}
    own = [SUBJECT] if there.pop(SUBJECT, None) is not None else []
    return [(name, heads[name]) for name in (*own, *sorted(there, key=there.get)[:1])]


def measured_details(results: dict, measured: dict) -> list[str]:
    """The training time to the goal of GLSCL and of the head that needs the fewest steps, in a sentence, if any."""
    took = [
        f"{name_of(name)} {significant(measured['seconds_to_goal'][name]['mean'])} s"
        for name, _ in _own_and_soonest(results["heads"])
    ]
    return [f"On this machine, training to the goal takes {' and '.join(took)}."] if took else []


def _named(heads: list[str]) -> str:
    if len(heads) > NAMED:
        return f"{len(heads)} heads"
    named = [name_of(head) for head in heads]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


# --- tables, and what figures draw


def asymptotes(results: dict) -> dict[str, float]:
    """The mean asymptote of every head that has one, percent."""
    return {name: found["asymptote"]["mean"] for name, found in results["heads"].items() if found["asymptote"]}


def costs(results: dict, measured: dict) -> pd.DataFrame:
    """What every head needs to the goal: columns method, unit (steps, gmacs or seconds), mean, low, high, maybe NaN."""
    rows = []
    for name, found in results["heads"].items():
        needed = {"steps": (found["steps_to_goal"], 1), "gmacs": (found["macs_to_goal"], 1e9)}
        needed |= {"seconds": (measured["seconds_to_goal"][name], 1)}
        for unit, (interval, scale) in needed.items():
            parts = {part: None if interval is None else interval[part] for part in ("mean", "low", "high")}
            parts = {part: None if value is None else value / scale for part, value in parts.items()}
            rows.append({"method": name, "unit": unit} | parts)
    table = pd.DataFrame(rows, columns=["method", "unit", "mean", "low", "high"])
    return table.astype(dict.fromkeys(("mean", "low", "high"), float))


def about(scope: dict) -> str:
    """Caption of what the numbers rest on."""
    return (
        f"{scope['dataset']}, {scope['texts']:,} test texts, {scope['videos']:,} videos; seeds {scope['seeds']}; "
        f"{scope['steps'][-1]} steps of {scope['batch_size']} pairs"
    )


def head_table(results: dict) -> pd.DataFrame:
    """Start, asymptote and rate of every head, apart: means over seeds with intervals, and how well the curve fits."""
    rows, count = [], len(results["scope"]["seeds"])
    for name, found in results["heads"].items():
        row = {"head": name, "learning rate": f"{found['lr']:g}", "start": _cell(found["start"])}
        row |= {"asymptote": _cell(found["asymptote"]), "end": _cell(found["end"])}
        row |= {"steps to half the gap": _cell(found["half"]), "power": _cell(found["power"])}
        row |= {"residual, at most": found["residual"], "seeds fitted": f"{found['fitted']} of {count}"}
        rows.append(row)
    return pd.DataFrame(rows)


def share_table(results: dict) -> pd.DataFrame:
    """Percent of its own gap that every head has closed, a column per evaluated step; nothing without a fit."""
    rows = []
    for name, found in results["heads"].items():
        closed = found["share_at"] or {}
        rows.append({"head": name} | {f"{s:,} steps": _percent(closed.get(s)) for s in results["scope"]["steps"][1:]})
    return pd.DataFrame(rows)


def goal_table(results: dict, measured: dict) -> pd.DataFrame:
    """Steps, work and time to the fixed R@1, and what a step costs: milliseconds, median and extremes, and GMACs."""
    rows, count = [], len(results["scope"]["seeds"])
    for name, found in results["heads"].items():
        pace = measured["seconds_per_step"][name]
        median, low, high = (significant(1e3 * pace[part]) for part in ("median", "min", "max"))
        row = {"head": name, "reached by": f"{found['reached']} of {count} seeds"}
        row |= {"steps": _cell(found["steps_to_goal"]), "GMACs": _cell(found["macs_to_goal"], 1e9)}
        row |= {"seconds": _cell(measured["seconds_to_goal"][name]), "ms per step": f"{median} [{low}, {high}]"}
        rows.append(row | {"GMACs per step": significant(found["macs_per_step"] / 1e9)})
    return pd.DataFrame(rows)


def difference_table(results: dict) -> pd.DataFrame:
    """Every other head over GLSCL, as factors, with intervals and corrected p-values, a row per quantity and head."""
    rows = []
    for kind, text in QUANTITIES.items():
        for rival, each in results["differences"].items():
            row, found = {"head": rival, "over GLSCL": text, "factor": None, "p (Holm)": None}, each[kind]
            if found:
                factor, low, high = (significant(math.exp(found[part])) for part in ("difference", "low", "high"))
                row |= {"factor": f"{factor} [{low}, {high}]", "p (Holm)": p_value(found["p_holm"])}
            rows.append(row)
    return pd.DataFrame(rows)


def _cell(interval: dict | None, unit: float = 1.0) -> str | None:
    if interval is None:
        return None
    return describe(*(None if interval[part] is None else interval[part] / unit for part in ("mean", "low", "high")))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f}"
