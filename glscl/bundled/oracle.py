"""The ceiling of the bundled corpora: a matcher that knows every event and reads what each caption tells."""

import numpy as np
import pandas as pd

from .grammar import FACTORS, read_told

KNOWN = (*FACTORS, "distractor")


def oracle_scores(captions: pd.DataFrame, events: pd.DataFrame) -> np.ndarray:
    """How well each video's events agree with each caption, (texts, videos), fractions in [0, 1].

    captions: column `told`, one row per text (`grammar.write_told`). events: columns video, event and the factors, one
    row per event; videos stand in the order of their first appearance. A score is the fraction of the told facts that
    hold when the told events are assigned to events of the video in the order of time, each to one, in the best way.
    Raises ValueError where a text tells more events than a video has, or tells of an unknown factor.
    """
    videos = [group.sort_values("event") for _, group in events.groupby("video", sort=False)]
    counts = {len(group) for group in videos}
    if len(counts) != 1:
        raise ValueError(f"expected videos with the same number of events, got {sorted(counts)}; score each kind apart")
    truth = {factor: np.stack([group[factor].to_numpy(dtype=str) for group in videos]) for factor in KNOWN}
    return np.stack([_agreement(read_told(cell), truth) for cell in captions["told"]])


def _agreement(told: list[dict[str, str]], truth: dict[str, np.ndarray]) -> np.ndarray:
    """Best order-preserving agreement of one caption with all videos, (videos,); truth[factor] is (videos, events)."""
    videos, events = truth["shape"].shape
    if len(told) > events:
        raise ValueError(f"expected a caption of at most {events} events, got {len(told)}; use the corpus's own table")
    if unknown := {factor for facts in told for factor in facts} - set(KNOWN):
        raise ValueError(f"expected facts about {', '.join(KNOWN)}, got {sorted(unknown)}; rebuild the corpus")
    # best[:, e]: matched facts of the told events so far, the last of them within the first e events.
    best = np.zeros((videos, events + 1))
    for facts in told:
        matched = sum((truth[factor] == value).astype(float) for factor, value in facts.items())
        longer = np.full_like(best, -np.inf)
        longer[:, 1:] = best[:, :-1] + matched
        best = np.maximum.accumulate(longer, axis=1)
    return best[:, -1] / sum(map(len, told))
