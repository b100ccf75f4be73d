"""How far a corpus lets methods differ: what mean pooling of the bundled CLIP finds, and what the oracles find."""

import numpy as np
import pandas as pd

from .oracle import KINDS, oracle_scores

LEAST = 15.0  # points of R@1 between mean pooling and facts bound to their events


def recall_at_1(scores: np.ndarray) -> float:
    """Percent of texts whose own video comes first; the video of text i is video i, of equal scores half count."""
    own = np.diag(scores)[:, None]
    return 100 * float(((scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2 < 1).mean())


def headroom(captions: pd.DataFrame, events: pd.DataFrame, mean_pooling: np.ndarray) -> dict[str, float]:
    """R@1 in percent of every kind of oracle and of mean pooling, one text per video in the same order.

    captions, events: as `oracle.oracle_scores` wants them. mean_pooling: cosines of each text with the mean of each
    video's frame vectors, (texts, videos). Raises ValueError where mean pooling leaves less than `LEAST` points to the
    oracle that binds facts to events.
    """
    found = {kind: recall_at_1(oracle_scores(captions, events, kind)) for kind in KINDS}
    found["mean pooling"] = recall_at_1(mean_pooling)
    if found["bound"] - found["mean pooling"] < LEAST:
        raise ValueError(
            f"expected mean pooling {LEAST:g} points of R@1 below the bound oracle, got {found}; "
            "let captions tell what only single events show"
        )
    return found
