"""Times of every head from processes that start anew, one after another, each on its own clocks and memory.

A process is one restart: where its memory lies and what else the machine does differ from restart to restart, and so
intervals come from restarts. Inside one every quantity is timed for head after head, so that what disturbs the machine
for a while meets all heads, and each restart begins with another head.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

import pandas as pd
import psutil
import torch
from torch import Tensor

from glscl.base import MatchingHead, take
from glscl.study.counting import SHORT, SIZES, build, clip_inputs, embedding_bytes, plain_clip, random_features
from glscl.study.project import hardware
from glscl.study.timing import (
    ITEMS,
    device,
    peak_memory,
    random_embeddings,
    repeated,
    rising,
    search,
    timed,
    whole_matrix,
)

BATCH, BATCH_GALLERY = 64, 10_000  # queries at once, and the largest gallery that they search
TOGETHER = 10  # times the patience: what 64 queries against the smallest gallery may take, one by one
DRAWN_FROM = 2_000  # videos that candidates are drawn from: more than a processor's cache holds
MATRIX = 1_000  # texts and videos of the matrix that the released procedures are timed on
FREE_SHARE = 0.6  # of the free memory that a gallery may take
FIRST = "mean_pooling"  # the head that chooses the candidates of a two-stage search


class Plan(NamedTuple):
    """What a restart times.

    heads: by name. sizes: keys of `SIZES`, the short one first. galleries and depths: numbers of videos that are
    searched and re-ranked, rising. memory_gb: that a gallery may take, never more than 60 % of what is free. patience:
    seconds that a call may take, the first of its kind excepted. blocks: of the matrix, see
    `glscl.study.timing.whole_matrix`. threads: of the processor.
    """

    heads: list[str]
    sizes: list[str]
    galleries: list[int]
    depths: list[int]
    memory_gb: float
    patience: float
    blocks: int
    threads: int


class Embedded(NamedTuple):
    """A head on the device, features of `ITEMS` texts and videos, and their embeddings."""

    head: MatchingHead
    features: tuple[Tensor, ...]
    texts: tuple
    videos: tuple

    @classmethod
    def of(cls, head: MatchingHead) -> "Embedded":
        """A head with the embeddings of random features."""
        texts, videos = random_embeddings(head)
        return cls(head, tuple(part.to(device()) for part in random_features(head.config, ITEMS)), texts, videos)


def restarted(plan: Plan, number: int, gpu: bool = False) -> tuple[pd.DataFrame, str]:
    """What `number` new processes find, one after another: rows as `one_restart` with a column `restart`, and where.

    gpu: time on the GPU; else the processes see none. Raises RuntimeError where one ends badly.
    """
    tables, environment = [], os.environ | ({} if gpu else {"CUDA_VISIBLE_DEVICES": ""})
    for restart in range(number):
        command = [sys.executable, "-m", __name__, json.dumps({"plan": plan._asdict(), "restart": restart})]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise RuntimeError(
                f"a process that measures times should end with 0, got {done.returncode} and {last!r}; where memory "
                "was short, lower `costs.memory_gb`."
            )
        found = json.loads(done.stdout.splitlines()[-1])
        tables.append(pd.DataFrame(found["rows"]).assign(restart=restart))
    return pd.concat(tables, ignore_index=True), found["hardware"]


def one_restart(plan: Plan, restart: int) -> list[dict]:
    """Everything that one process times: rows of head, size, what, videos and value.

    Per item, `videos` being 1: `text`, encoded alone; `texts` and `videos`, `ITEMS` at once. By gallery: `search`, one
    query; `batch`, `BATCH` at once, absent where they go one by one; `first`, mean pooling's choice of candidates. By
    depth: `rerank`. The head `clip` has text, texts and frames, and the matrix a head per way. Values are seconds;
    those of `peak_memory`, of the largest search, bytes.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(0)
    turn = restart % len(plan.heads)
    order, rows = plan.heads[turn:] + plan.heads[:turn], []
    for size in plan.sizes:
        heads = {head: Embedded.of(build(head, *SIZES[size])) for head in order}
        for kind in (encoding, searching, second_stage):
            for head, one in heads.items():
                rows += [{"head": head, "size": size} | row for row in kind(one, plan)]
        if FIRST in heads:
            rows += [{"head": FIRST, "size": size} | row for row in first_stage(heads[FIRST], plan)]
        if size == SHORT and {"glscl", "x_pool"} <= heads.keys():
            ways = whole_matrix(heads["glscl"].head, heads["x_pool"].head, MATRIX, plan.blocks)
            rows += [{"head": way, "size": size} | _row("matrix", MATRIX, value) for way, value in ways.items()]
    return rows + list(clip_rows(plan))


def _row(what: str, videos: int, value: float) -> dict:
    return {"what": what, "videos": videos, "value": value}


def encoding(one: Embedded, plan: Plan) -> Iterator[dict]:
    """The head's own work on an item."""
    sentence, words, word_mask, frames, frame_mask = one.features
    enough = plan.patience / 4
    for what, items in (("text", 1), ("texts", ITEMS)):
        parts = sentence[:items], words[:items], word_mask[:items]
        yield _row(what, 1, timed(partial(one.head.encode_texts, *parts), enough) / items)
    yield _row("videos", 1, timed(partial(one.head.encode_videos, frames, frame_mask), enough) / ITEMS)


def searching(one: Embedded, plan: Plan) -> Iterator[dict]:
    """Searches of one query and of many at once, and the peak of memory of the largest."""
    text, texts = take(one.texts, slice(1)), repeated(one.texts, BATCH)
    gallery = cache(partial(repeated, one.videos))
    sizes = fitting(one.videos, plan)
    single = rising(lambda size: partial(search, one.head, text, gallery(size)), sizes, plan.patience)
    yield from (_row("search", size, seconds) for size, seconds in single.items())
    small = [size for size in sizes if size <= max(BATCH_GALLERY, sizes[0])]
    many, queries = single, text
    if BATCH * single[sizes[0]] <= TOGETHER * plan.patience:
        queries = texts
        many = rising(lambda size: partial(search, one.head, texts, gallery(size)), small, plan.patience)
        yield from (_row("batch", size, seconds) for size, seconds in many.items())
    peak = peak_memory(partial(search, one.head, queries, gallery(max(many))))
    if peak is not None:
        yield _row("peak_memory", max(many), peak)


def fitting(videos: tuple, plan: Plan) -> list[int]:
    """The galleries that memory has room for, the smallest always."""
    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available
    room = min(1e9 * plan.memory_gb, FREE_SHARE * free) / embedding_bytes(videos)
    return [size for size in plan.galleries if size <= max(room, plan.galleries[0])]


def second_stage(one: Embedded, plan: Plan) -> Iterator[dict]:
    """A query against candidates that lie scattered in a gallery: they are gathered and scored."""
    text, gallery = take(one.texts, slice(1)), repeated(one.videos, DRAWN_FROM)

    def rerank(depth: int):
        candidates = torch.randint(DRAWN_FROM, (depth,), device=device())
        return lambda: search(one.head, text, take(gallery, candidates))

    yield from (_row("rerank", *found) for found in rising(rerank, plan.depths, plan.patience).items())


def first_stage(one: Embedded, plan: Plan) -> Iterator[dict]:
    """Mean pooling's search for as many videos as are re-ranked at most."""
    text, sizes = take(one.texts, slice(1)), fitting(one.videos, plan)
    choose = rising(
        lambda size: partial(search, one.head, text, repeated(one.videos, size), plan.depths[-1]), sizes, plan.patience
    )
    yield from (_row("first", *found) for found in choose.items())


def clip_rows(plan: Plan) -> Iterator[dict]:
    """CLIP's encoders, which every head has before it: texts at the lengths of the sizes, and a frame."""
    clip, enough = plain_clip().to(device()), plan.patience / 4
    for size in plan.sizes:
        for what, items in (("text", 1), ("texts", ITEMS)):
            sentences, _ = clip_inputs(clip, SIZES[size][1], items)
            seconds = timed(partial(clip.text_features, *(part.to(device()) for part in sentences)), enough)
            yield {"head": "clip", "size": size} | _row(what, 1, seconds / items)
    _, frames = clip_inputs(clip, 1, ITEMS)
    seconds = timed(partial(clip.frame_features, *(part.to(device()) for part in frames)), enough)
    yield {"head": "clip", "size": SHORT} | _row("frames", 1, seconds / ITEMS)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps({"hardware": hardware(), "rows": one_restart(Plan(**given["plan"]), given["restart"])}))
