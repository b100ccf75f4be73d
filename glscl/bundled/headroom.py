"""How far a corpus lets methods differ: what mean pooling of the bundled CLIP finds, and what the oracles find."""

import numpy as np
import pandas as pd

from glscl.metrics import expected_recalls

from .oracle import KINDS, oracle_scores

LEAST = 15.0  # points of R@1 between mean pooling and facts bound to their events


def headroom(captions: pd.DataFrame, events: pd.DataFrame, mean_pooling: np.ndarray) -> dict[str, float]:
    """R@1 in percent of every kind of oracle and of mean pooling, one text per video in the same order; ties at random.

    captions, events: as `oracle.oracle_scores` wants them. mean_pooling: cosines of each text with the mean of each
    video's frame vectors, (texts, videos). Raises ValueError where mean pooling leaves less than `LEAST` points to the
    oracle that binds facts to events.
    """
    scores = {kind: oracle_scores(captions, events, kind) for kind in KINDS} | {"mean pooling": mean_pooling}
    found = {name: expected_recalls(of, np.arange(len(of)))["R@1"] for name, of in scores.items()}
    if found["bound"] - found["mean pooling"] < LEAST:
        raise ValueError(
            f"expected mean pooling {LEAST:g} points of R@1 below the bound oracle, got {found}; "
            "let captions tell what only single events show"
        )
    return found
