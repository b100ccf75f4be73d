"""Times of a query under every head on one machine: summaries over restarts, ratios to GLSCL, tables, and the answer.

`measure_costs` returns what the stage writes into `results/measured/<profile>/costs.json`, and the single times for
`costs.csv`; the tables take the former as it is in memory or as read again.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from glscl.evaluation.statistics import seed_interval
from glscl.report.names import head_name
from glscl.report.page import significant
from glscl.study.costs import HEADS, SUBJECT, TITLES, shown_galleries
from glscl.study.counting import SHORT, SIZES
from glscl.study.project import commit
from glscl.study.restarts import BATCH, BATCH_GALLERY, FIRST, MATRIX, Plan, restarted
from glscl.study.timing import extrapolate

PARTS = {"clip": "CLIP's text encoder", "text": "head, text", "search": "search"}  # of a query
SINGLE = "glscl, decoding every item once"  # no way to compute the matrix, but a part of some
NO_GPU = "no GPU here"


def measure_costs(counted: dict, restarts: int, sizes: list[str], depths: list[int], **limits) -> tuple[dict, dict]:
    """Times and memory of every head on this machine, and the answer of the question.

    counted: from `glscl.study.costs.count_costs`. restarts: processes that measure, one after another. sizes, depths
    and limits: see `glscl.study.restarts.Plan`. Returns what is found: the settings, commit and hardware; what
    `summary` gives of the CPU, and as `gpu` of a GPU, or None without one; `answer` and `details`. And the single
    times, by device, as tables of `glscl.study.restarts.restarted`.
    """
    plan = Plan(HEADS, sizes, counted["galleries"], depths, **limits)
    rows, machine = restarted(plan, restarts)
    single, found = {"cpu": rows}, {"commit": commit(), "hardware": machine, "restarts": restarts}
    found |= plan._asdict() | summary(rows, plan) | {"gpu": None}
    if torch.cuda.is_available():
        single["gpu"], machine = restarted(plan, restarts, gpu=True)
        found["gpu"] = {"hardware": machine} | summary(single["gpu"], plan)
    answer, details = _answer(counted, found)
    return found | {"answer": answer, "details": details}, single


class Times:
    """Times by head, size, what, and videos: a value of every restart, extrapolated in proportion where need be."""

    def __init__(self, rows: pd.DataFrame):
        restarts = sorted(rows["restart"].unique())
        self._tables = {
            key: group.pivot(index="restart", columns="videos", values="value").reindex(restarts)
            for key, group in rows.groupby(["head", "size", "what"])
        }

    def known(self, head: str, size: str, what: str) -> list[int]:
        """The numbers of videos that every restart measured, rising."""
        table = self._tables.get((head, size, what), pd.DataFrame())
        return [int(videos) for videos in table.columns[table.notna().all()]]

    def of(self, head: str, size: str, what: str, videos: int = 1) -> np.ndarray:
        """A value of every restart, from the largest number of videos that was measured where this one was not."""
        measured = self.known(head, size, what)
        nearest = videos if videos in measured else measured[-1]
        return extrapolate(self._tables[head, size, what][nearest].to_numpy(), nearest, videos)

    def search(self, head: str, size: str, gallery: int) -> np.ndarray:
        """Seconds of a search of one query."""
        return self.of(head, size, "search", gallery)

    def batch(self, head: str, size: str) -> np.ndarray:
        """Seconds of `BATCH` searches of `BATCH_GALLERY` videos, at once or, where that was too long, one by one."""
        if self.known(head, size, "batch"):
            return self.of(head, size, "batch", BATCH_GALLERY)
        return BATCH * self.search(head, size, BATCH_GALLERY)

    def query(self, head: str, size: str, gallery: int) -> np.ndarray:
        """Seconds of a query from text to result."""
        return self.of("clip", size, "text") + self.of(head, size, "text") + self.search(head, size, gallery)

    def queries(self, head: str, size: str) -> np.ndarray:
        """Seconds of `BATCH` queries from texts to results."""
        encoders = self.of("clip", size, "texts") + self.of(head, size, "texts")
        return BATCH * encoders + self.batch(head, size)


def over_restarts(values: np.ndarray, name: str = "seconds") -> dict[str, float]:
    """Geometric mean of a value per restart, as `name`, with the 95 % t interval of its logarithm: low and high."""
    logs = np.log(values)
    low, high = np.exp(seed_interval(logs))
    return {name: float(np.exp(logs.mean())), "low": float(low), "high": float(high)}


def summary(rows: pd.DataFrame, plan: Plan) -> dict:
    """Seconds over restarts, see `over_restarts`, and ratios to GLSCL that are taken within a restart.

    Returns `heads`, {head: {size: text, texts and videos of one item; queries, a row per gallery with the restarts as
    repeats, 0 where extrapolated; end_to_end of the same galleries; batch and many, `BATCH` searches and whole queries
    at once; rerank by depth; peak_memory in bytes}}}; `first_stage` by gallery; `clip`; `whole_matrix` by way;
    `over_glscl`, {head: ratios of search, batch, many and index, of end_to_end by gallery with its `edges`, and the
    galleries of it that are extrapolated}.
    """
    times, restarts = Times(rows), rows["restart"].nunique()

    def by_videos(head: str, size: str, what: str, asked: list[int]) -> dict[int, dict]:
        known = times.known(head, size, what)
        repeats = {videos: restarts if videos in known else 0 for videos in asked}
        return {n: over_restarts(times.of(head, size, what, n)) | {"repeats": repeats[n]} for n in asked}

    def of_head(head: str, size: str) -> dict:
        found = {what: over_restarts(times.of(head, size, what)) for what in ("text", "texts", "videos")}
        searches = by_videos(head, size, "search", plan.galleries)
        found["queries"] = [{"gallery": gallery} | row for gallery, row in searches.items()]
        found["end_to_end"] = {n: over_restarts(times.query(head, size, n)) for n in plan.galleries}
        together = times.known(head, size, "batch")
        measured = {"measured": (together or times.known(head, size, "search"))[-1], "together": bool(together)}
        found["batch"] = over_restarts(times.batch(head, size)) | measured
        found["many"] = over_restarts(times.queries(head, size))
        found["rerank"] = by_videos(head, size, "rerank", plan.depths)
        peaks = times.known(head, size, "peak_memory")
        peak = float(np.median(times.of(head, size, "peak_memory", peaks[-1]))) if peaks else None
        return found | {"peak_memory": peak}

    ways = rows.loc[rows["what"] == "matrix", "head"].unique()
    clip = {f"{SIZES[size][1]} words": over_restarts(times.of("clip", size, "text")) for size in plan.sizes}
    return {
        "heads": {head: {size: of_head(head, size) for size in plan.sizes} for head in plan.heads},
        "first_stage": by_videos(FIRST, SHORT, "first", plan.galleries),
        "clip": clip | {"image": over_restarts(times.of("clip", SHORT, "frames"))},
        "whole_matrix": {way: over_restarts(times.of(way, SHORT, "matrix", MATRIX)) for way in ways},
        "over_glscl": {head: _over_glscl(times, head, plan) for head in plan.heads if head != SUBJECT},
    }


def _over_glscl(times: Times, head: str, plan: Plan) -> dict:
    """A head's times in units of GLSCL's at the size of the paper's column, restart by restart."""

    def ratio(seconds: Callable[[str], np.ndarray]) -> dict[str, float]:
        return over_restarts(seconds(head) / seconds(SUBJECT), "ratio")

    both = set(times.known(head, SHORT, "search")) & set(times.known(SUBJECT, SHORT, "search"))
    compared = max(n for n in both if n <= max(BATCH_GALLERY, min(both)))
    ends = {n: ratio(lambda one, n=n: times.query(one, SHORT, n)) for n in plan.galleries}
    return {
        "search": ratio(lambda one: times.search(one, SHORT, compared)) | {"gallery": compared},
        "batch": ratio(lambda one: times.batch(one, SHORT)),
        "many": ratio(lambda one: times.queries(one, SHORT)),
        "index": ratio(lambda one: times.of(one, SHORT, "videos")),
        "end_to_end": {str(gallery): one["ratio"] for gallery, one in ends.items()},
        "edges": {str(gallery): [one["low"], one["high"]] for gallery, one in ends.items()},
        "extrapolated": [gallery for gallery in plan.galleries if gallery not in both],
    }


def _answer(counted: dict, measured: dict) -> tuple[str, list[str]]:
    """Counted work first, then what it comes to on this machine, in one sentence; more in `details`."""
    work, timed = counted["over_glscl"]["x_clip"], measured["over_glscl"]
    small, large = (shown := shown_galleries(counted["galleries"]))[0], shown[-1]
    search = {head: significant(timed[head]["search"]["ratio"]) for head in ("x_clip", "x_pool", "cross_encoder")}
    answer = (
        f"X-CLIP takes {significant(work['macs']['pair'])} times GLSCL's work per pair (published: "
        f"{work['published']:.0f}), {significant(work['end_to_end'][str(small)])} times per {small:,}-video query with "
        f"CLIP; timed, a search takes {search['x_clip']} times as long."
    )
    ends = {gallery: significant(timed["x_clip"]["end_to_end"][str(gallery)]) for gallery in (small, large)}
    heads = {head: measured["heads"][head][SHORT] for head in (SUBJECT, "x_clip", "mean_pooling")}
    rates = {head: significant(BATCH / one["many"]["seconds"]) for head, one in heads.items()}
    index = {head: significant(_minutes(one["videos"]["seconds"])) for head, one in heads.items()}
    ways = {way: significant(one["seconds"]) for way, one in measured["whole_matrix"].items()}
    details = [
        f"X-CLIP's search is timed against {timed['x_clip']['search']['gallery']:,} videos, the cross-encoder's "
        f"against {timed['cross_encoder']['search']['gallery']:,}: {search['cross_encoder']} times GLSCL's; X-Pool's "
        f"takes {search['x_pool']}.",
        f"From text to result a query takes X-CLIP {ends[small]} times as long as GLSCL against {small:,} videos, "
        f"{ends[large]} against {large:,}{' (extrapolated)' if large in timed['x_clip']['extrapolated'] else ''}.",
        f"With CLIP, {BATCH} queries at once against {BATCH_GALLERY:,} videos: GLSCL answers {rates[SUBJECT]} per "
        f"second, X-CLIP {rates['x_clip']}, mean pooling {rates['mean_pooling']}.",
        f"To index a million videos GLSCL's head takes {index[SUBJECT]} minutes, X-CLIP's {index['x_clip']}, and "
        f"CLIP's frames {significant(_clip_minutes(measured))}.",
        f"The similarities of {MATRIX:,} texts with {MATRIX:,} videos take {ways['glscl, exact']} s, and "
        f"{ways['glscl, as released']} s as GLSCL's release computes them.",
        f"Times are of this machine: intervals from {measured['restarts']} restarts of the process, "
        f"{measured['threads']} thread{'s' * (measured['threads'] > 1)}.",
    ]
    return answer, details


def _minutes(seconds: float) -> float:
    """Minutes of a million times so many seconds."""
    return 1e6 * seconds / 60


def _clip_minutes(measured: dict) -> float:
    """Minutes of CLIP's image encoder on the frames of a million videos."""
    return _minutes(SIZES[SHORT][0] * measured["clip"]["image"]["seconds"])


def query_rows(measured: dict) -> pd.DataFrame:
    """A row per head, size and gallery: the seconds of a search, low, high, and repeats, 0 where extrapolated."""
    return pd.DataFrame(
        {"method": head, "size": size} | row
        for head, sizes in measured["heads"].items()
        for size, one in sizes.items()
        for row in one["queries"]
    )


def latency_data(measured: dict) -> tuple[pd.DataFrame, dict[str, float]]:
    """`query_rows` and the seconds of CLIP's text encoder, both by titles of the sizes, for `figures.costs.latency`."""
    rows = query_rows(measured)
    encoder = {TITLES[size]: measured["clip"][f"{SIZES[size][1]} words"]["seconds"] for size in rows["size"].unique()}
    return rows.assign(size=rows["size"].map(TITLES)), encoder


def share_data(measured: dict) -> tuple[pd.DataFrame, list[str]]:
    """Seconds of the `PARTS` of a query, by method at up to three galleries, and their names.

    For `figures.costs.shares`; items have the size of the paper's column.
    """
    rows = query_rows(measured)
    rows = rows[rows["size"] == SHORT].rename(columns={"seconds": PARTS["search"]})
    shown = rows["gallery"].isin((1_000, 10_000, 100_000))
    rows = rows[shown if shown.any() else rows["gallery"] == rows["gallery"].max()]
    encoding = [measured["heads"][head][SHORT]["text"]["seconds"] for head in rows["method"]]
    encoder = measured["clip"][f"{SIZES[SHORT][1]} words"]["seconds"]
    return rows.assign(**{PARTS["clip"]: encoder, PARTS["text"]: encoding}), list(PARTS.values())


def head_table(counted: dict, measured: dict) -> pd.DataFrame:
    """What each head costs a search engine: latency, throughput, storage, indexing; a star marks what is extrapolated.

    Queries include CLIP's text encoder and the head's own work on the text; indexing is the head's alone.
    """
    small, large = (shown := shown_galleries(counted["galleries"]))[0], shown[-1]
    rows = []
    for head, sizes in measured["heads"].items():
        one, repeats = sizes[SHORT], {row["gallery"]: row["repeats"] for row in sizes[SHORT]["queries"]}
        searched = {row["gallery"]: row for row in one["queries"]}
        ends = {int(gallery): found for gallery, found in one["end_to_end"].items()}
        row = {"head": head_name(head), f"search of {small:,}, ms": _edged(searched[small], 1e3, repeats[small])}
        for gallery in sorted({small, large}):
            row[f"query of {gallery:,}, ms"] = _edged(ends[gallery], 1e3, repeats[gallery])
        row["queries/s, one by one"] = _rate(ends[small], 1, repeats[small])
        row[f"queries/s, {BATCH} at once"] = _rate(one["many"], BATCH, one["batch"]["measured"] == BATCH_GALLERY)
        row["GB per million videos"] = significant(counted["heads"][head][SHORT]["bytes"]["video"] / 1e3)
        row["minutes to index a million"] = _edged(one["videos"], _minutes(1))
        rows.append(row | _gpu_cells(measured["gpu"], head, small))
    return pd.DataFrame(rows)


def _gpu_cells(gpu: dict | None, head: str, gallery: int) -> dict[str, str]:
    """The columns of the GPU in `head_table`."""
    if gpu is None:
        return {"GPU": NO_GPU}
    one = gpu["heads"][head][SHORT]
    ends = {int(size): found for size, found in one["end_to_end"].items()}
    return {
        f"GPU: query of {gallery:,}, ms": _edged(ends[gallery], 1e3),
        f"GPU: queries/s, {BATCH} at once": _rate(one["many"], BATCH),
    }


def _edged(found: dict, times: float = 1.0, repeats: int = 1, name: str = "seconds") -> str:
    """A value with its interval, all multiplied, and a star where nothing was measured."""
    value, low, high = (significant(times * found[part]) for part in (name, "low", "high"))
    return f"{value}{'' if repeats else '*'} [{low}, {high}]"


def _rate(found: dict, queries: int, repeats: int = 1) -> str:
    """Queries per second, with the interval, from the seconds of so many queries."""
    turned = {"seconds": 1 / found["seconds"], "low": 1 / found["high"], "high": 1 / found["low"]}
    return _edged(turned, queries, repeats)


def comparison_table(counted: dict, measured: dict) -> pd.DataFrame:
    """Every head in units of GLSCL: as published, counted, and measured; a star marks what is extrapolated."""
    sizes, rows = shown_galleries(counted["galleries"]), []
    for head, work in counted["over_glscl"].items():
        time = measured["over_glscl"][head]
        row = {"head": head_name(head), "published": work["published"] and significant(work["published"])}
        row |= {"work, pair as released": significant(work["macs"]["released"])}
        row |= {"work, pair": significant(work["macs"]["pair"])}
        row |= {f"work, query of {size:,}": significant(work["end_to_end"][str(size)]) for size in sizes}
        row |= {"time, search": _edged(time["search"], name="ratio"), "videos": f"{time['search']['gallery']:,}"}
        row |= {f"time, {BATCH} at once": _edged(time["many"], name="ratio")}
        for size in sizes:
            edges = dict(zip(("low", "high"), time["edges"][str(size)], strict=True))
            found = edges | {"ratio": time["end_to_end"][str(size)]}
            row[f"time, query of {size:,}"] = _edged(found, 1.0, size not in time["extrapolated"], "ratio")
        rows.append(row)
    return pd.DataFrame(rows)


def ratio_bars(counted: dict, measured: dict, head: str = "x_clip") -> pd.DataFrame:
    """A head over GLSCL as published, counted and timed: columns name, ratio, low and high where timed, and source.

    measured: may be empty, where nothing was timed; then there are counted rows alone.
    """
    work, small = counted["over_glscl"][head], shown_galleries(counted["galleries"])[0]
    rows = [("published", work["published"], None, None, "published")]
    rows += [("work per pair", work["macs"]["pair"], None, None, "counted")]
    rows += [(f"work end to end, {small:,} videos", work["end_to_end"][str(small)], None, None, "counted")]
    if measured:
        timed = measured["over_glscl"][head]
        names = {"batch": f"{BATCH} searches at once", "search": f"one search, {timed['search']['gallery']:,} videos"}
        rows += [(names[part], *(timed[part][edge] for edge in ("ratio", "low", "high")), "timed") for part in names]
        for gallery in shown_galleries(counted["galleries"]):
            star = "*" if gallery in timed["extrapolated"] else ""
            ratio = timed["end_to_end"][str(gallery)]
            rows.append((f"end to end, {gallery:,} videos{star}", ratio, *timed["edges"][str(gallery)], "timed"))
    return pd.DataFrame(rows, columns=["name", "ratio", "low", "high", "source"])


def throughput_table(measured: dict, size: str) -> pd.DataFrame:
    """Searches per second in batches, memory of a search, and milliseconds of the head per item; a star: one by one."""
    rows = []
    for head, sizes in measured["heads"].items():
        one = sizes[size]
        batch, peak = one["batch"], one["peak_memory"]
        row = {"head": head_name(head), "searches per second": _rate(batch, BATCH)}
        row |= {"measured on": f"{batch['measured']:,}{'' if batch['together'] else ' *'}"}
        row |= {"peak memory, MB": None if peak is None else f"{peak / 1e6:,.0f}"}
        names = {"text": "text, ms", "texts": "text of 8, ms", "videos": "video of 8, ms"}
        rows.append(row | {name: f"{1e3 * one[what]['seconds']:.2f}" for what, name in names.items()})
    return pd.DataFrame(rows)


def matrix_table(measured: dict) -> pd.DataFrame:
    """Seconds of the similarity matrix by way to compute it, with its interval."""
    ways, rows = measured["whole_matrix"], []
    once = ways[SINGLE]["seconds"]
    for way in matrix_chart(measured).index:
        decodes = significant(once) if way in ("glscl, exact", "glscl, concepts decoded once") else None
        row = {"way": head_name(way), "seconds": _edged(ways[way]), "decoding every item once": decodes}
        exact = ways[f"{way.partition(',')[0]}, exact"]["seconds"]
        rows.append(row | {"times the exact way": significant(ways[way]["seconds"] / exact)})
    return pd.DataFrame(rows)


def matrix_chart(measured: dict) -> pd.DataFrame:
    """Seconds of the similarity matrix by way to compute it, one column."""
    ways = {way: one["seconds"] for way, one in measured["whole_matrix"].items() if way != SINGLE}
    return pd.DataFrame({f"{MATRIX:,} x {MATRIX:,}": ways})


def clip_indexing(measured: dict) -> str:
    """Minutes of CLIP's frames for a million videos, in a sentence."""
    frames, minutes = SIZES[SHORT][0], significant(_clip_minutes(measured))
    return f"Before any head, CLIP's image encoder takes {minutes} minutes for {frames} frames of a million videos."
