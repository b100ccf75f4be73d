"""Reference rows beside the methods: chance, an oracle that knows the drawn events, bag-of-words ridge regression."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge

from glscl.bundled.oracle import oracle_scores
from glscl.data.dataset import Split
from glscl.data.frame_store import FrameStore
from glscl.metrics import DEPTH, RECALLS

THUMBNAIL = 8  # pixels


def chance(items: int) -> dict[str, float]:
    """Expected metrics of a random order of `items`, one of which is correct; recalls and mAP@10 in percent."""
    recalls = {f"R@{k}": 100 * min(k, items) / items for k in RECALLS}
    precision = 100 * sum(1 / rank for rank in range(1, min(DEPTH, items) + 1)) / items
    return recalls | {"MdR": (items + 1) / 2, "MnR": (items + 1) / 2, f"mAP@{DEPTH}": precision}


def oracle(folder: str | Path, split: Split, kind: str = "ordered") -> np.ndarray | None:
    """Scores (texts, videos) of a matcher that knows every event, or None where the corpus has no table of events.

    kind: as in `glscl.bundled.oracle.oracle_scores`.
    """
    folder = Path(folder)
    if not (folder / "events.csv").exists():
        return None
    written = pd.read_csv(folder / "captions.csv").iloc[split.captions["caption_id"]]
    if written["caption"].tolist() != split.captions["text"].tolist():
        raise ValueError(f"the captions of {folder} changed since they were prepared; run the prepare stage again.")
    events = pd.read_csv(folder / "events.csv").set_index("video").loc[split.videos].reset_index()
    return oracle_scores(written, events, kind)


def bag_of_words_ridge(
    data: Split, galleries: list[Split], store: FrameStore, strength: float = 100.0
) -> list[np.ndarray]:
    """Ridge regression from word counts to the mean 8 x 8 thumbnail of a video: scores (texts, videos) per gallery.

    Learnt once on the captions and videos of `data`; the score is the cosine with the predicted, centred thumbnail.
    strength: of the ridge penalty. Every video is read once.
    """
    step = store.size // THUMBNAIL
    side = THUMBNAIL * step

    @cache
    def thumbnail(video: str) -> np.ndarray:
        picture = store.frames(video)[:, :side, :side].mean(0)
        return picture.reshape(THUMBNAIL, step, THUMBNAIL, step, 3).mean((1, 3)).ravel()

    known = np.stack([thumbnail(video) for video in data.videos])
    centre, spread = known.mean(0), known.std(0) + 1e-6
    counts = CountVectorizer(min_df=2, binary=True)
    words = counts.fit_transform(data.captions["text"]).astype(float)
    regression = Ridge(alpha=strength).fit(words, ((known - centre) / spread)[data.video_of_text.numpy()])
    scores = []
    for split in galleries:
        predicted = regression.predict(counts.transform(split.captions["text"]).astype(float))
        videos = np.stack([thumbnail(video) for video in split.videos])
        scores.append(_unit(predicted) @ _unit((videos - centre) / spread).T)
    return scores


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
