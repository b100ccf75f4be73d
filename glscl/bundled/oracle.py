"""What can be had on the bundled corpora: matchers that know every event and read what each caption tells."""

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pandas as pd

from .grammar import FACTORS, read_told

KNOWN = (*FACTORS, "distractor")
KINDS = ("bag", "bound", "ordered")


def oracle_scores(captions: pd.DataFrame, events: pd.DataFrame, kind: str = "ordered") -> np.ndarray:
    """How well each video's events agree with each caption, (texts, videos), fractions in [0, 1].

    captions: column `told`, one row per text (`grammar.write_told`). events: columns video, event and the factors, one
    row per event; videos stand in the order of their first appearance. A score is the fraction of the told facts that
    hold, and `kind` says when one does:

    - bag: somewhere in the video, a fact that is told twice in two events; nothing says which facts belong together.
    - bound: when the told events are assigned to events of the video, each to another one, in the best way.
    - ordered: the same in the order of time, which is all that a caption tells.

    So bag >= bound >= ordered for every pair, and a text has 1 with its own video. Raises ValueError where a text tells
    more events than a video has, or tells of an unknown factor.
    """
    if kind not in KINDS:
        raise ValueError(f"expected kind to be one of {', '.join(KINDS)}, got {kind!r}; use one of those")
    videos = [group.sort_values("event") for _, group in events.groupby("video", sort=False)]
    counts = {len(group) for group in videos}
    if len(counts) != 1:
        raise ValueError(f"expected videos with the same number of events, got {sorted(counts)}; score each kind apart")
    truth = {factor: np.stack([group[factor].to_numpy(dtype=str) for group in videos]) for factor in KNOWN}
    return np.stack([_agreement(read_told(cell), truth, kind) for cell in captions["told"]])


def _agreement(told: list[dict[str, str]], truth: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """Share of one caption's facts that hold in each video, (videos,); truth[factor] is (videos, events)."""
    events = truth["shape"].shape[1]
    if len(told) > events:
        raise ValueError(f"expected a caption of at most {events} events, got {len(told)}; use the corpus's own table")
    if unknown := {factor for facts in told for factor in facts} - set(KNOWN):
        raise ValueError(f"expected facts about {', '.join(KNOWN)}, got {sorted(unknown)}; rebuild the corpus")
    if kind == "bag":
        bag = Counter(fact for facts in told for fact in facts.items())
        held = sum(np.minimum((truth[factor] == value).sum(1), count) for (factor, value), count in bag.items())
    else:
        # matched[t]: facts of told event t that hold in each event of each video, (videos, events).
        matched = [sum((truth[factor] == value).astype(int) for factor, value in facts.items()) for facts in told]
        ways = combinations if kind == "ordered" else permutations
        assignments = np.array(list(ways(range(events), len(told))))
        held = sum(matched[t][:, assignments[:, t]] for t in range(len(told))).max(axis=1)
    return held / sum(map(len, told))
