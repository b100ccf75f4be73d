"""Tables of the losses notebook, and the rows and drawings of its figures, from what `results_of` made.

results: of `glscl.study.loss_results.results_of`. papers: of `glscl.study.published.published`.
"""

import pandas as pd

from glscl.evaluation.results import describe
from glscl.losses import CONSISTENCY_TARGET
from glscl.report.figures.histogram import histogram
from glscl.report.figures.losses import rank_card
from glscl.report.figures.svg import Drawing
from glscl.study.loss_results import SETTINGS, SHOWN, dose, points
from glscl.study.losses import DOSED, FULL
from glscl.study.published import headline_among_sweeps, near_headline, sweeps

KNOBS = tuple(DOSED)
EFFECT = ["difference", "low", "high", "detectable", "seeds"]  # of a part, as a figure draws it


def captions(scope: dict) -> tuple[str, str]:
    """What was measured on the test split, and on the validation split."""
    basis = f"seeds {scope['seeds']}; {scope['steps']} steps of {scope['batch_size']} pairs"
    return (
        f"{scope['dataset']}: {scope['texts']:,} test texts, {scope['videos']:,} videos; {basis}",
        f"{scope['dataset']}: {scope['validation_texts']:,} validation texts; {basis}",
    )


def doses_frame(results: dict) -> pd.DataFrame:
    """The doses as a table, for the figure of training against evaluation."""
    return pd.DataFrame(results["doses"])[["variant", "name", "dropout", "within_train", "within_eval"]]


def dose_rows(results: dict) -> pd.DataFrame:
    """The doses that change alpha, beta or dropout alone, and the full model in each of these, for the figure.

    Columns: variant, knob, dose, r1, low, high, rank_text, rank_video, matched_minus_wrong; rising doses.
    """
    rows = []
    for row in results["doses"]:
        full = dose(results, FULL, row["variant"])
        other = [name for name in SETTINGS if row[name] != full[name]]
        kept = {name: row[name] for name in ("variant", "rank_text", "rank_video", "matched_minus_wrong")}
        kept |= {"r1": row["r1"]["mean"], "low": row["r1"]["low"], "high": row["r1"]["high"]}
        knobs = KNOBS if not other else [name for name in other if other == [name] and name in KNOBS]
        rows += [kept | {"knob": knob, "dose": row[knob]} for knob in knobs]
    table = pd.DataFrame(rows).astype({"low": float, "high": float})
    several = table.groupby("knob")["dose"].transform("nunique") > 1  # one dose shows no response
    return table[several].sort_values(["variant", "knob", "dose"], kind="stable", ignore_index=True)


def contrast_rows(results: dict) -> pd.DataFrame:
    """The effects of parts on R@1, a row per part and variant: columns part, variant, and those of `EFFECT`."""
    rows = [
        {"part": part, "variant": variant} | entry["r1"]
        for part, by_variant in results["contrasts"].items()
        for variant, entry in by_variant.items()
    ]
    return pd.DataFrame(rows, columns=["part", "variant", *EFFECT])


def contrasts_table(results: dict) -> pd.DataFrame:
    """What a part does to R@1, in points, and to the concepts, with intervals."""
    rows = []
    for part, by_variant in results["contrasts"].items():
        for variant, entry in by_variant.items():
            effect = entry["r1"]
            row = {"with minus without": part, "variant": variant, "R@1": points(effect)}
            row |= {"p, Holm": f"{effect['p_holm']:.3g}", "detectable": f"{effect['detectable']:.1f}"}
            for statistic, shown in SHOWN.items():
                gap = entry.get(statistic)
                ends = [round(gap[end], 3) + 0.0 for end in ("difference", "low", "high")] if gap else None
                row[shown] = ends and "{:+.3f} [{:.3f}, {:.3f}]".format(*ends)
            rows.append(row)
    return pd.DataFrame(rows)


def doses_table(results: dict) -> pd.DataFrame:
    """Every dose: settings, R@1, its change, and the concepts; the target cosine is the consistency term's."""
    scope, rows = results["scope"], []
    for row in results["doses"]:
        effect = row.get("over_full")
        share = scope["concepts"] / scope["batch_size"] if row["variant"] == "released" else 1.0
        rows.append(
            {"variant": row["variant"]}
            | {name: f"{row[name]:g}" for name in SETTINGS}
            | {"R@1": describe(row["r1"]["mean"], row["r1"]["low"], row["r1"]["high"])}
            | {"minus full": effect and points(effect), "p, Holm": effect and f"{effect['p_holm']:.3g}"}
            | {"rank, text": f"{row['rank_text']:.2f}", "rank, video": f"{row['rank_video']:.2f}"}
            | {"same, own": f"{row['matched']:.3f}", "minus wrong": f"{row['matched_minus_wrong']:.3f}"}
            | {"target": f"{CONSISTENCY_TARGET * share:.3f}" if row["beta"] else None}
        )
    return pd.DataFrame(rows)


def training_table(results: dict) -> pd.DataFrame:
    """Every dose: cosine of two concepts of a video and diversity loss in training and evaluation, and gradients."""
    rows = []
    for row in results["doses"]:
        cells = {"variant": row["variant"], "condition": row["name"]}
        cells |= {f"cosine, {mode}": f"{row[f'within_{key}']:.3f}" for mode, key in MODES.items()}
        cells |= {f"hinge, {mode}": f"{row[f'hinge_{key}']:.2g}" for mode, key in MODES.items()}
        for term, norm in row["gradients"].items():
            first = row["first_gradients"].get(term)
            cells[f"gradient, {term}"] = f"{norm:.2g}" if first is None else f"{norm:.2g} (at first {first:.2g})"
        rows.append(cells)
    return pd.DataFrame(rows)


MODES = {"training": "train", "evaluation": "eval"}


def published_table(results: dict) -> pd.DataFrame:
    """Is the paper's headline the largest of many settings that are equally good? A row per rule of what is near."""
    return pd.DataFrame(
        {
            "settings within a factor of": f"{factor:g}",
            "settings": found["settings"],
            "mean R@1": f"{found['mean']:.2f}",
            "sd": f"{found['sd']:.2f}",
            "expected best": f"{found['expected']:.2f}",
            "printed": f"{found['headline']:.1f}",
            "chance to reach it": f"{found['p']:.2f}",
        }
        for factor, found in results["sensitivity"].items()
    )


def sweeps_caption(papers: pd.DataFrame) -> str:
    """How many settings the paper's sweeps have, the headline counted once."""
    swept = sweeps(papers)
    count = int((swept["direction"] == "t2v").sum())
    return f"{count} points per direction as printed, of {count - swept['parameter'].nunique() + 1} settings"


def headline_figure(papers: pd.DataFrame) -> Drawing:
    """The paper's R@1 at the settings near its headline as a histogram, with the headline marked; for README too."""
    found = headline_among_sweeps(papers)
    return histogram(
        f"GLSCL's headline on MSR-VTT beside {found.settings} settings near it",
        near_headline(sweeps(papers))["r1"].tolist(),
        marked=found.headline,
        mark=f"the paper's headline {found.headline:g}",
        rule=found.expected,
        ruled=f"best of {found.settings + 1} equal ones, expected {found.expected:.2f}",
        below="R@1 of text to video as printed, %; one training each",
    )


def rank_figure(results: dict) -> Drawing:
    """Effective rank over training as a small drawing, the full model standing out; for README too."""
    lines = steps_lines(results)
    return rank_card(lines, results["scope"]["concepts"], hero=results["scope"]["variants"][0])


def steps_table(results: dict) -> pd.DataFrame:
    """`followed` in one table, as losses.csv keeps it: a row per condition and step."""
    return pd.DataFrame([{"condition": label} | row for label, rows in results["followed"].items() for row in rows])


def steps_lines(results: dict) -> pd.DataFrame:
    """`steps_table` with a column name for a reader: the variant for the full model, else what is changed of it."""
    table = steps_table(results)
    parts = table["condition"].str.split("/", expand=True)
    return table.assign(name=parts[0].where(parts[1] == FULL, parts[1]))
