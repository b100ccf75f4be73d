"""Published results of text-video retrieval, one row per system, benchmark and direction, each with its source.

`results/published.csv` was transcribed by hand from papers, READMEs and released logs. Its columns:

method, year         the system as its source names it, and when it appeared
dataset, direction   the benchmark; t2v or v2t
backbone             the CLIP that it starts from, or non-CLIP
r1, r5, r10          recalls in percent; mdr, mnr: ranks counted from 1; empty where the source gives none
postprocess          none, or what was done to the scores, or what is wrong with them
flops_g              the column FLOPs of GLSCL's Table I
source               where the number stands; "third party" and "re-run" are not the system's authors

No source reports mAP@10.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from glscl.data.corpora.counts import COUNTED

# What `glscl.data.corpora` calls a corpus, and the benchmark in the table; Charades-STA has no published row.
BENCHMARKS = {
    "msrvtt": "MSR-VTT-1kA",
    "msvd": "MSVD",
    "didemo": "DiDeMo",
    "lsmdc": "LSMDC",
    "activitynet": "ActivityNet",
    "vatex": "VATEX",
    "charades": "Charades",
    "charades_sta": "Charades-STA",
}
# Videos of their test splits, counted on their files; of MSR-VTT the 1,000 that both of its usual partitions share.
TEST_VIDEOS = {
    benchmark: COUNTED[name, "9k" if name == "msrvtt" else None]["test"][0][0] for name, benchmark in BENCHMARKS.items()
}
FIVE = ("MSR-VTT-1kA", "MSVD", "DiDeMo", "LSMDC", "ActivityNet")  # of GLSCL's experiments
SWEEP = "GLSCL ablation "  # begins the method of a row of the paper's own sweeps, which goes on as `alpha=1e-4`
NEAR = 10  # times the headline's value of the swept parameter, or a tenth of it, at most
COLUMNS = ["method", "year", "dataset", "direction", "backbone", "r1", "r5", "r10", "mdr", "mnr", "postprocess"]
COLUMNS += ["flops_g", "source"]
LEAKS = {"leaky-eval": "yes", "suspect": "suspected"}


def marks(postprocess: str) -> tuple[str, bool]:
    """Whether a row leaks (yes, suspected or no), and whether its scores were post-processed, by its first word.

    `leaky-eval` is the released evaluation of T-MASS, which pools each video with its own caption; `suspect` is a
    system that evaluates with its code. Any other entry than `none` is a post-processing, such as QB-Norm.
    """
    leak = LEAKS.get(postprocess.split(" ")[0], "no")
    return leak, leak == "no" and postprocess != "none"


def benchmark_of(dataset: str, videos: int, backbone: str) -> str:
    """The benchmark that a test split of so many videos is, `none` where it is not, or CLIP was not pre-trained.

    A part of a benchmark's gallery gives higher recalls, and a CLIP from scratch none that compare.
    """
    benchmark = BENCHMARKS.get(dataset, "none")
    return benchmark if videos == TEST_VIDEOS.get(benchmark) and backbone != "scratch" else "none"


def published(path: str | Path) -> pd.DataFrame:
    """The table of `path` with the columns `leak` (yes, suspected, no) and `post_processed`, see `marks`.

    Raises ValueError where a column is missing or unknown, or where a row lacks its R@1, its post-processing or its
    source.
    """
    table = pd.read_csv(path)
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{path} must have the columns {COLUMNS}, got {list(table.columns)}; restore its first line.")
    if empty := sorted(set(table.index[table[["r1", "postprocess", "source"]].isna().any(axis=1)] + 2)):
        raise ValueError(f"every line of {path} needs r1, postprocess and source, got none in {empty}; fill them in.")
    leak, processed = zip(*map(marks, table["postprocess"]), strict=True)
    return table.assign(leak=leak, post_processed=processed)


def comparable(table: pd.DataFrame, direction: str = "t2v") -> pd.DataFrame:
    """The rows of `published` of one direction without post-processing, known leak or suspicion of one."""
    return table[(table["direction"] == direction) & (table["leak"] == "no") & ~table["post_processed"]]


def own_tables(table: pd.DataFrame, benchmark: str, backbone: str = "ViT-B/32") -> tuple[pd.Series, pd.Series]:
    """GLSCL's row of a benchmark in its paper's own tables and the best row of another system there, by t2v R@1.

    Raises ValueError where the tables lack either.
    """
    rows = comparable(table)
    rows = rows[rows["source"].str.startswith("GLSCL Table") & (rows["dataset"] == benchmark)]
    rows = rows[rows["backbone"] == backbone]
    own, others = rows[rows["method"] == "GLSCL"], rows[rows["method"] != "GLSCL"]
    if len(own) != 1 or others.empty:
        raise ValueError(
            f"GLSCL's tables should have one row of GLSCL and others on {benchmark} with {backbone}, got {len(own)} "
            f"and {len(others)}; restore results/published.csv."
        )
    return own.iloc[0], others.loc[others["r1"].idxmax()]


def sweeps(table: pd.DataFrame) -> pd.DataFrame:
    """The paper's own sweeps on MSR-VTT: columns parameter, value, direction, r1, headline; a row per printed number.

    headline: whether this is the setting of the paper's main result, which is a point of every sweep: in each sweep
    the value with the highest R@1 of text to video. Raises ValueError where those differ, so that they cannot be it.
    """
    rows = table[table["method"].str.startswith(SWEEP)].reset_index(drop=True)
    named = rows["method"].str.removeprefix(SWEEP).str.split("=", expand=True)
    found = rows[["direction", "r1"]].assign(parameter=named[0], value=named[1].astype(float))
    best = found[found["direction"] == "t2v"].groupby("parameter")["r1"].idxmax()
    if found.loc[best, "r1"].nunique() != 1:
        raise ValueError(
            f"the sweeps should all have the main result as their best, got {found.loc[best, 'r1'].tolist()}; restore "
            "results/published.csv."
        )
    headline = found["parameter"].map(found.loc[best].set_index("parameter")["value"])
    return found.assign(headline=found["value"] == headline)


def near_headline(swept: pd.DataFrame, factor: float = NEAR) -> pd.DataFrame:
    """The rows of `sweeps`, text to video, that lie near the headline: other settings with nearly its parameters.

    Such a setting switches nothing off, so its value is above 0, and it is at most `factor` times the headline's value
    and at least that value over `factor`. The rule looks at parameters alone, never at R@1.
    """
    rows = swept[swept["direction"] == "t2v"]
    headline = rows["parameter"].map(rows[rows["headline"]].set_index("parameter")["value"])
    times = rows["value"] / headline
    slack = 1 + 1e-9  # a quotient of printed decimals may miss the factor in its last digit
    return rows[~rows["headline"] & times.between(1 / factor / slack, factor * slack)]


class LargestOfMany(NamedTuple):
    """Could a headline be the largest of equally good settings, each with its own noise?

    settings: beside the headline. mean, sd: of their values. expected: the largest of settings + 1 independent normal
    values with that mean and sd, on average. p: the chance that the largest reaches the headline.
    """

    settings: int
    mean: float
    sd: float
    headline: float
    expected: float
    p: float


def largest_of_many(values, headline: float) -> LargestOfMany:
    """`LargestOfMany` of the values of other settings, two or more, (settings,), and the headline. ValueError else."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"a spread needs two settings or more, got {len(values)}; widen the rule of what is near.")
    mean, sd, draws = values.mean(), values.std(ddof=1), len(values) + 1
    # The mean of the largest is the integral of its quantiles.
    share = (np.arange(100_000) + 0.5) / 100_000
    expected = mean + sd * norm.ppf(share ** (1 / draws)).mean()
    p = -np.expm1(draws * norm.logcdf(headline, mean, sd))
    return LargestOfMany(len(values), float(mean), float(sd), float(headline), float(expected), float(p))


def headline_among_sweeps(table: pd.DataFrame, factor: float = NEAR) -> LargestOfMany:
    """`largest_of_many` of the paper's R@1, text to video, at the settings near its headline, and of the headline."""
    swept = sweeps(table)
    headline = swept.loc[swept["headline"] & (swept["direction"] == "t2v"), "r1"].iloc[0]
    return largest_of_many(near_headline(swept, factor)["r1"], headline)
