"""The work of a query under every head, counted: the same on every machine; `glscl.study.measured_costs` has times.

`count_costs` returns what the stage writes into `results/<profile>/costs.json`, beside what
`glscl.study.two_stage.recall_kept` adds; the tables take it as it is in memory or as read again.
"""

from collections.abc import Iterable

import pandas as pd
import torch

from glscl.methods import METHODS
from glscl.report.names import head_name
from glscl.report.page import significant
from glscl.study.counting import SHORT, SIZES, build, bytes_per_item, config_of, count, count_clip, plain_clip
from glscl.study.formulas import FORMULAS, PUBLISHED, clip_image, clip_text, what_was_published

SUBJECT = "glscl"
HEADS = [SUBJECT, *sorted(METHODS.keys() - {SUBJECT})]
TITLES = {size: f"{frames} frames, {words} words" for size, (frames, words) in SIZES.items()}
WORDS = [words for _, words in SIZES.values()]
ENCODER = f"{SIZES[SHORT][1]} words"  # CLIP's text encoder at that size
BENCHMARK_SIZE = 1_000  # videos, the gallery of most benchmarks
KINDS = {"released": "as released", "pair": "exact"}  # of work per pair


def count_costs(galleries: list[int]) -> dict:
    """Multiply-accumulates and bytes of every head at every size of item; nothing that depends on the machine.

    galleries: numbers of videos. Returns `heads`, {head: {size: macs by part and term, counted by torch, bytes per
    item, query: {gallery: macs of the head's work on a text and a search}}}; `clip`, macs of one frame and of one
    sentence; `published`, the paper's column, and `published_terms`, our reading of it; `over_glscl`, {head: published,
    macs and end_to_end, each in GLSCL's}; and `details`. Raises ValueError where formula and counter differ.
    """
    torch.manual_seed(0)
    heads = {head: {size: _counted(head, size, galleries) for size in SIZES} for head in HEADS}
    clip = plain_clip()
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


def work_table(counted: dict, size: str) -> pd.DataFrame:
    """Multiply-accumulates of each head per text, video and pair, and bytes of the embeddings per item."""
    rows = []
    for head, sizes in counted["heads"].items():
        work = {part: sum(terms.values()) for part, terms in sizes[size]["macs"].items()}
        row = {"head": head_name(head), "text, million": significant(work["text"] / 1e6)}
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
        row = {"head": head_name(head), "published": str(printed)}
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
        row = {"head": head_name(head), "videos that cost as much": significant(encoder / macs)}
        sizes = shown_galleries(counted["galleries"])
        rows.append(row | {f"search of {size:,}": significant(size * macs / encoder) for size in sizes})
    return pd.DataFrame(rows)
