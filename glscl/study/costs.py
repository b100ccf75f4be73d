"""What a query costs under every head: work that is counted, the same everywhere, and times that a machine measured.

`count_costs` and `measure_costs` return what the stage writes into two files, `results/<profile>/costs.json` and
`results/measured/<profile>/costs.json`; the tables take them as they are in memory or as read again.
"""

from collections.abc import Iterable

import pandas as pd
import torch

from glscl.methods import METHODS
from glscl.report.page import significant
from glscl.study.counting import SIZES, build, bytes_per_item, config_of, count, count_clip, random_clip
from glscl.study.formulas import FORMULAS, PUBLISHED, clip_image, clip_text, what_was_published
from glscl.study.project import commit, hardware
from glscl.study.timing import BATCH, BATCH_GALLERY, clip_seconds, device, measure, side_by_side, whole_matrix

SUBJECT = "glscl"
HEADS = [SUBJECT, *sorted(METHODS.keys() - {SUBJECT})]
TITLES = {size: f"{frames} frames, {words} words" for size, (frames, words) in SIZES.items()}
SHORT = "short"  # the size of the paper's cost column
WORDS = [words for _, words in SIZES.values()]
ENCODER = f"{SIZES[SHORT][1]} words"  # CLIP's text encoder at that size
BENCHMARK_SIZE = 1_000  # videos, the gallery of most benchmarks
ITEMS = 1_000  # texts and videos of the matrix that the released procedures are timed on
TURNS = 0.5  # seconds that a head and GLSCL take turns, or more for three rounds
KINDS = {"released": "as released", "pair": "exact"}  # of work per pair
PARTS = {"clip": "CLIP's text encoder", "text": "head, text", "search": "search"}  # of a query


def count_costs(galleries: list[int]) -> dict:
    """Multiply-accumulates and bytes of every head at every size of item; nothing that depends on the machine.

    galleries: numbers of videos. Returns `heads`, {head: {size: macs by part and term, counted by torch, bytes per
    item, query: {gallery: macs of the head's work on a text and a search}}}; `clip`, macs of one frame and of one
    sentence; `published`, the paper's column, and `published_terms`, our reading of it; `over_glscl`, {head: published,
    macs and end_to_end, each in GLSCL's}; and `details`. Raises ValueError where formula and counter differ.
    """
    torch.manual_seed(0)
    heads = {head: {size: _counted(head, size, galleries) for size in SIZES} for head in HEADS}
    clip = random_clip()
    config, counted = clip.config.clip_config, count_clip(clip, WORDS)
    by_formula = {"image": clip_image(config)} | {f"{n} words": clip_text(config, n) for n in WORDS}
    _require_equal("CLIP", by_formula, counted)
    over = {head: _work_over_glscl(heads, head, counted[ENCODER]) for head in HEADS[1:]}
    found = {"galleries": galleries, "heads": heads, "clip": counted, "over_glscl": over}
    found |= {"sizes": {size: {"frames": frames, "words": words} for size, (frames, words) in SIZES.items()}}
    found |= {"published": PUBLISHED, "published_terms": what_was_published(config_of(SUBJECT, *SIZES[SHORT]))}
    return found | {"details": _counted_details(found)}


def _counted(head: str, size: str, galleries: list[int]) -> dict:
    built = build(head, *SIZES[size])
    macs, counted = FORMULAS[head](built.config), count(built)
    totals = macs.totals()
    _require_equal(f"{head}, {size}", {part: totals[part] for part in counted}, counted)
    query = {str(gallery): totals["text"] + gallery * totals["pair"] for gallery in galleries}
    return {"macs": macs._asdict(), "counted": counted, "bytes": bytes_per_item(built), "query": query}


def _require_equal(what: str, by_formula: dict[str, int], counted: dict[str, int]) -> None:
    if by_formula != counted:
        raise ValueError(
            f"the formula of {what} should give what torch counts, {counted}, got {by_formula}; correct it in "
            "glscl/study/formulas.py."
        )


def per_pair(counted: dict, kind: str = "pair", size: str = SHORT) -> dict[str, int]:
    """Multiply-accumulates per pair by head: `pair` is the exact form that runs here, or `released`."""
    return {head: sum(one[size]["macs"][kind].values()) for head, one in counted["heads"].items()}


def _work_over_glscl(heads: dict, head: str, encoder: int) -> dict:
    """A head's work in units of GLSCL's: as published, per pair, and of whole queries with CLIP's text encoder."""
    published = PUBLISHED[head] / PUBLISHED[SUBJECT] if head in PUBLISHED else None
    works = {kind: per_pair({"heads": heads}, kind) for kind in KINDS}
    macs = {kind: work[head] / work[SUBJECT] for kind, work in works.items()}
    own, rival = (heads[name][SHORT]["query"] for name in (SUBJECT, head))
    end_to_end = {gallery: (encoder + rival[gallery]) / (encoder + own[gallery]) for gallery in own}
    return {"published": published, "macs": macs, "end_to_end": end_to_end}


def _counted_details(counted: dict) -> list[str]:
    over, sizes = counted["over_glscl"], shown_galleries(counted["galleries"])
    small, large = sizes[0], sizes[-1]
    work = {head: significant(over[head]["macs"]["pair"]) for head in ("x_clip", "x_pool", "cross_encoder")}
    ends = {gallery: significant(over["x_clip"]["end_to_end"][str(gallery)]) for gallery in (small, large)}
    return [
        f"The published {over['x_clip']['published']:.0f} times (X-CLIP over GLSCL) counts two inner products of a "
        "pair for GLSCL.",
        f"Counted in full, the work of X-CLIP's head on a pair is {work['x_clip']} times GLSCL's.",
        f"The work of X-Pool's exact form is {work['x_pool']} times GLSCL's, that of a cross-encoder "
        f"{work['cross_encoder']} times.",
        f"With CLIP's text encoder, X-CLIP's work on a query is {ends[small]} times GLSCL's against {small:,} videos "
        f"and {ends[large]} against {large:,}.",
    ]


def shown_galleries(galleries: Iterable[int | str]) -> list[int]:
    """The gallery of a benchmark, 1,000 videos or the largest below, and the largest of all, where they differ."""
    rising = sorted(map(int, galleries))
    benchmark = max((size for size in rising if size <= BENCHMARK_SIZE), default=rising[0])
    return sorted({benchmark, rising[-1]})


def measure_costs(counted: dict, memory_gb: float, patience: float, blocks: int, threads: int) -> dict:
    """Times and memory of every head on this machine, and the answer of the question.

    counted: from `count_costs`. memory_gb: that a gallery may take, never more than 60 % of what is free. patience:
    seconds that a search may take; beyond either limit times are extrapolated. blocks: of the similarity matrix, timed
    for each way to compute it. threads: of the processor. Returns the settings, commit and hardware; `heads`, see
    `glscl.study.timing.measure`; `clip`; `whole_matrix`; `over_glscl`, {head: search and end_to_end in units of
    GLSCL's, and the galleries of end_to_end that are extrapolated}; `answer` and `details`.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    galleries = counted["galleries"]
    found = {"commit": commit(), "hardware": hardware(), "device": str(device()), "threads": threads}
    found |= {"memory_gb": memory_gb, "patience": patience, "blocks": blocks}
    found["heads"] = {
        head: {size: measure(build(head, *SIZES[size]), galleries, memory_gb * 1e9, patience) for size in SIZES}
        for head in HEADS
    }
    found["clip"] = clip_seconds(random_clip(), WORDS)
    found["whole_matrix"] = whole_matrix(build(SUBJECT, *SIZES[SHORT]), build("x_pool", *SIZES[SHORT]), ITEMS, blocks)
    found["over_glscl"] = _time_over_glscl(found)
    answer, details = _answer(counted, found)
    return found | {"answer": answer, "details": details}


def query_rows(measured: dict) -> pd.DataFrame:
    """A row per head, size and gallery: the seconds of a search, low, high, and repeats, 0 where extrapolated."""
    return pd.DataFrame(
        {"method": head, "size": size} | row
        for head, sizes in measured["heads"].items()
        for size, one in sizes.items()
        for row in one["queries"]
    )


def query_parts(measured: dict) -> pd.DataFrame:
    """Seconds of the `PARTS` of a query, and their total, by method and gallery, at the size of the paper's column."""
    rows = query_rows(measured)
    rows = rows[rows["size"] == SHORT].rename(columns={"seconds": PARTS["search"]})
    encoding = [measured["heads"][head][SHORT]["encode_text"]["seconds"] for head in rows["method"]]
    rows = rows.assign(**{PARTS["clip"]: measured["clip"][ENCODER]["seconds"], PARTS["text"]: encoding})
    return rows.assign(total=rows[list(PARTS.values())].sum(axis=1))


def latency_data(measured: dict) -> tuple[pd.DataFrame, dict[str, float]]:
    """`query_rows` and the seconds of CLIP's text encoder, both by titles of the sizes, for `figures.costs.latency`."""
    rows, clip = query_rows(measured), measured["clip"]
    encoder = {TITLES[size]: clip[f"{words} words"]["seconds"] for size, (_, words) in SIZES.items()}
    return rows.assign(size=rows["size"].map(TITLES)), encoder


def share_data(measured: dict) -> tuple[pd.DataFrame, list[str]]:
    """`query_parts` at up to three galleries and the names of the parts, for `figures.costs.shares`."""
    parts = query_parts(measured)
    shown = parts[parts["gallery"].isin((1_000, 10_000, 100_000))]
    shown = shown if len(shown) else parts[parts["gallery"] == parts["gallery"].max()]
    return shown, list(PARTS.values())


def _time_over_glscl(measured: dict) -> dict[str, dict]:
    """Times of each head in units of GLSCL's: a search, in turns with GLSCL's, and whole queries."""
    parts, rows = query_parts(measured), query_rows(measured)
    timed = rows[(rows["size"] == SHORT) & (rows["repeats"] > 0)]
    short = timed[(timed["seconds"] < 1) & (timed["gallery"] <= BATCH_GALLERY)].groupby("method")["gallery"].max()
    ends = parts.pivot(index="method", columns="gallery", values="total")
    guessed = parts.pivot(index="method", columns="gallery", values="repeats") == 0
    found = {}
    for head in HEADS[1:]:
        size = int(min(short.get(one, rows["gallery"].min()) for one in (SUBJECT, head)))
        found[head] = {
            "search": side_by_side(build(head, *SIZES[SHORT]), build(SUBJECT, *SIZES[SHORT]), size, TURNS),
            "end_to_end": {str(gallery): ends.at[head, gallery] / ends.at[SUBJECT, gallery] for gallery in ends},
            "extrapolated": [gallery for gallery in ends if guessed.at[head, gallery] or guessed.at[SUBJECT, gallery]],
        }
    return found


def _answer(counted: dict, measured: dict) -> tuple[str, list[str]]:
    """One sentence on what replacing cross-attention does to a search on this machine, and more in `details`."""
    over, sizes = measured["over_glscl"], shown_galleries(counted["galleries"])
    small, large = sizes[0], sizes[-1]
    x_clip, published = over["x_clip"], counted["over_glscl"]["x_clip"]["published"]
    ratios = {head: significant(over[head]["search"]["ratio"]) for head in ("x_clip", "x_pool", "cross_encoder")}
    near = "near" if x_clip["search"]["ratio"] >= 0.9 * published else "not"
    answer = (
        f"On this machine a search takes X-CLIP {ratios['x_clip']} times as long as GLSCL, {near} the published "
        f"{published:.0f}, and a cross-encoder {ratios['cross_encoder']} times."
    )
    ends = {gallery: significant(x_clip["end_to_end"][str(gallery)]) for gallery in (small, large)}
    batches = {
        head: significant(BATCH / measured["heads"][head][SHORT]["batch"]["seconds"]) for head in ("glscl", "x_clip")
    }
    ways = {way: significant(one["seconds"]) for way, one in measured["whole_matrix"].items()}
    timed = query_rows(measured).query("size == @SHORT and repeats > 0").groupby("method")["gallery"].max()
    details = [
        f"X-CLIP's search is timed against {x_clip['search']['gallery']:,} videos, the cross-encoder's against "
        f"{over['cross_encoder']['search']['gallery']:,}; X-Pool's exact search takes {ratios['x_pool']} times as "
        "long as GLSCL's.",
        f"From text to result a query takes X-CLIP {ends[small]} times as long as GLSCL against {small:,} videos and "
        f"{ends[large]} against {large:,}{' (extrapolated)' if large in x_clip['extrapolated'] else ''}.",
        f"In batches of {BATCH} against {BATCH_GALLERY:,} videos GLSCL answers {batches['glscl']} queries per second, "
        f"X-CLIP {batches['x_clip']}.",
        f"The similarities of {ITEMS:,} texts with {ITEMS:,} videos take {ways['glscl, exact']} s, and "
        f"{ways['glscl, as released']} s as GLSCL's release computes them.",
        f"GLSCL's searches are timed up to {timed[SUBJECT]:,} videos, X-CLIP's up to {timed['x_clip']:,} and the "
        f"cross-encoder's up to {timed['cross_encoder']:,}; the rest is extrapolated.",
    ]
    return answer, details


def work_table(counted: dict, size: str) -> pd.DataFrame:
    """Multiply-accumulates of each head per text, video and pair, and bytes of the embeddings per item."""
    rows = []
    for head, sizes in counted["heads"].items():
        work = {part: sum(terms.values()) for part, terms in sizes[size]["macs"].items()}
        row = {"head": head, "text, million": significant(work["text"] / 1e6)}
        row |= {"video, million": significant(work["video"] / 1e6), "pair, exact": f"{work['pair']:,}"}
        row |= {"pair, released": f"{work['released']:,}"}
        rows.append(row | {f"KB/{item}": significant(n / 1e3) for item, n in sizes[size]["bytes"].items()})
    return pd.DataFrame(rows)


def terms_table(counted: dict, head: str = SUBJECT) -> pd.DataFrame:
    """A head's multiply-accumulates term by term, at the size of the paper's column."""
    macs = counted["heads"][head][SHORT]["macs"]
    names = {"released": "per pair, as released", "pair": "per pair, exact", "text": "per text", "video": "per video"}
    terms = pd.DataFrame({name: pd.Series(macs[part], dtype=float) for part, name in names.items()})
    return terms.map(lambda n: None if pd.isna(n) else f"{n:,.0f}").rename_axis("term").reset_index()


def published_table(counted: dict) -> pd.DataFrame:
    """The paper's cost column, the terms that make up its entries, and the work of a pair in thousands."""
    released, exact, rows = per_pair(counted, "released"), per_pair(counted), []
    for head, printed in counted["published"].items():
        terms = counted["published_terms"][head]
        row = {"head": head, "published": str(printed)}
        row |= {"terms": " + ".join(f"{name} {number:,}" for name, number in terms.items())}
        row |= {"their sum, k": significant(sum(terms.values()) / 1e3)}
        row |= {"as released, k": significant(released[head] / 1e3), "exact, k": significant(exact[head] / 1e3)}
        rows.append(row)
    return pd.DataFrame(rows)


def pair_chart(counted: dict) -> pd.DataFrame:
    """Multiply-accumulates per pair by head, a column each as published, as released and exact, rising."""
    columns = {"published, x 1,000": 1e3 * pd.Series(counted["published"])}
    columns |= {name: per_pair(counted, kind) for kind, name in KINDS.items()}
    return pd.DataFrame({name: pd.Series(values, dtype=float) for name, values in columns.items()}).sort_values("exact")


def search_table(counted: dict) -> pd.DataFrame:
    """The work of a search in units of CLIP's text encoder, and the gallery that costs as much as the encoder."""
    encoder, rows = counted["clip"][ENCODER], []
    for head, macs in sorted(per_pair(counted).items(), key=lambda item: item[1]):
        row = {"head": head, "videos that cost as much": significant(encoder / macs)}
        sizes = shown_galleries(counted["galleries"])
        rows.append(row | {f"search of {size:,}": significant(size * macs / encoder) for size in sizes})
    return pd.DataFrame(rows)


def comparison_table(counted: dict, measured: dict) -> pd.DataFrame:
    """Every head in units of GLSCL: as published, counted, and measured; a star marks what is extrapolated."""
    sizes, rows = shown_galleries(counted["galleries"]), []
    for head, work in counted["over_glscl"].items():
        time = measured["over_glscl"][head]
        search = time["search"]
        row = {"head": head, "published": work["published"] and significant(work["published"])}
        row |= {f"work, {name}": significant(work["macs"][kind]) for kind, name in KINDS.items()}
        row |= {f"work, query of {size:,}": significant(work["end_to_end"][str(size)]) for size in sizes}
        edges = f"[{significant(search['low'])}, {significant(search['high'])}]"
        row |= {"time, search": f"{significant(search['ratio'])} {edges}", "videos": f"{search['gallery']:,}"}
        for size in sizes:
            star = " *" if size in time["extrapolated"] else ""
            row[f"time, query of {size:,}"] = significant(time["end_to_end"][str(size)]) + star
        rows.append(row)
    return pd.DataFrame(rows)


def throughput_table(measured: dict, size: str) -> pd.DataFrame:
    """Queries per second in batches, memory of a search, and milliseconds of the head per item; a star: one by one."""
    rows = []
    for head, sizes in measured["heads"].items():
        one = sizes[size]
        batch, peak = one["batch"], one["peak_memory"]
        row = {"head": head, "queries per second": significant(BATCH / batch["seconds"])}
        row |= {"measured on": f"{batch['measured']:,}{'' if batch['together'] else ' *'}"}
        row |= {"peak memory, MB": None if peak is None else f"{peak / 1e6:,.0f}"}
        row |= {f"{item}, ms": f"{1e3 * one[f'encode_{item}']['seconds']:.2f}" for item in ("text", "video")}
        rows.append(row)
    return pd.DataFrame(rows)


def matrix_table(measured: dict) -> pd.DataFrame:
    """Seconds of the similarity matrix by way to compute it, with the lowest and the highest block."""
    ways, rows = measured["whole_matrix"], []
    for way, one in ways.items():
        exact = ways[f"{way.partition(',')[0]}, exact"]["seconds"]
        seconds = f"{significant(one['seconds'])} [{significant(one['low'])}, {significant(one['high'])}]"
        once = significant(one["decoding"]) if "decoding" in one else None
        times = significant(one["seconds"] / exact)
        rows.append({"way": way, "seconds": seconds, "decoding every item once": once, "times the exact way": times})
    return pd.DataFrame(rows)


def matrix_chart(measured: dict) -> pd.DataFrame:
    """Seconds of the similarity matrix by way to compute it, one column."""
    name = f"{ITEMS:,} x {ITEMS:,}"
    return pd.DataFrame({name: {way: one["seconds"] for way, one in measured["whole_matrix"].items()}})


def indexing(measured: dict) -> str:
    """Seconds to index one video, CLIP's image encoder and GLSCL's head, in a sentence."""
    frames, image = SIZES[SHORT][0], measured["clip"]["image"]["seconds"]
    head = measured["heads"][SUBJECT][SHORT]["encode_video"]["seconds"]
    clip = frames * image
    return f"To index a video of {frames} frames: CLIP's image encoder {clip:.2f} s, GLSCL's head {head:.3f} s."
