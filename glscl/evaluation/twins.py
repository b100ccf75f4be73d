"""Choosing between a true text of a video and its false twin, `glscl.bundled.twins`: what a head binds.

A twin split has one text per row, and in its column `of` the caption_id of the true text in the test split.
"""

import numpy as np
import torch
from torch import Tensor

from glscl.base import MatchingHead, RetrievalModel, take
from glscl.data.dataset import Split
from glscl.encoding import encode_split, encode_texts
from glscl.evaluation.statistics import paired_difference
from glscl.rivals.cross_encoder import CrossEncoderHead
from glscl.scoring import encode_all

CHANCE = 50.0  # percent
PAIRS = 8  # scored at a time; a head scores all texts of a block with all its videos


def twin_accuracy(
    model: RetrievalModel, test: Split, twins: dict[str, Split], embedded: tuple | None = None
) -> dict[str, np.ndarray]:
    """Per twin text, whether the video's true text scores higher: 1, a tie 0.5, else 0; {kind: (texts,)}.

    twins: {kind: split of its twins}. embedded: what `encode_split(model, test)` gave, if it is at hand; every text and
    every video is encoded once. Raises ValueError where `of` names no text of the test split, or a twin stands beside
    another video than its true text, or a score is not finite.
    """
    texts, videos = embedded or encode_split(model, test)
    row_of = {caption: row for row, caption in enumerate(test.captions["caption_id"])}
    found = {}
    for kind, split in twins.items():
        rows = torch.tensor([row_of.get(caption, -1) for caption in split.captions["of"]])
        if (rows < 0).any() or (test.captions["video"].iloc[rows.tolist()].values != split.captions["video"]).any():
            raise ValueError(
                f"every twin of {kind} needs in `of` the caption_id of a test text of its own video; prepare the test "
                "split and its twins together."
            )
        false = encode_all(lambda index, split=split: _encoded(model, split, index), len(split))
        right = take(videos, test.video_of_text[rows])
        margin = pair_scores(model.head, take(texts, rows), right) - pair_scores(model.head, false, right)
        if not torch.isfinite(margin).all():
            raise ValueError(f"scores of {kind} twins must be finite, got NaN or infinity; look for damaged inputs.")
        found[kind] = (0.5 + 0.5 * margin.sign()).numpy()
    return found


def _encoded(model: RetrievalModel, split: Split, index: Tensor):
    return encode_texts(model, {name: tensor.to(model.device) for name, tensor in split.text_batch(index).items()})


@torch.inference_mode()
def pair_scores(head: MatchingHead, texts, videos) -> Tensor:
    """Scores (pairs,) of text i with video i, on the CPU, from embeddings of as many texts as videos."""
    pairs = torch.arange(len(texts[0]))
    if isinstance(head, CrossEncoderHead):
        return head.score_pairs(texts, videos, pairs, pairs).cpu()
    device = head.logit_scale.device
    blocks = [
        head.similarity(take(texts, block, device), take(videos, block, device)).diagonal()
        for block in pairs.split(PAIRS)
    ]
    return torch.cat(blocks).float().cpu()


def twin_table(found: dict[str, np.ndarray], group: dict[str, np.ndarray]) -> dict[str, dict]:
    """{kind: {"accuracy", "low", "high", "p", "texts", "chance"}}, percent.

    found: {kind: (runs, texts)}, of every seed what `twin_accuracy` gave. group: {kind: (texts,)}, the video of each
    twin. low and high: 95 % interval over queries and seeds, None of the twins of one video. p: of an accuracy of 50 %.
    """
    table = {}
    for kind, values in found.items():
        points = 100 * np.asarray(values, dtype=float)
        over = paired_difference(points, np.full_like(points, CHANCE), group[kind])
        table[kind] = {
            "accuracy": CHANCE + over["difference"],
            "low": None if over["low"] is None else max(0.0, CHANCE + over["low"]),
            "high": None if over["high"] is None else min(100.0, CHANCE + over["high"]),
            "p": over["p"],
            "texts": points.shape[1],
            "chance": CHANCE,
        }
    return table
