"""What the concepts of a trained GLSCL are like: how diverse, and what they attend to.

Concepts are the unit-length vectors (items, concepts, width) of `glscl.model.LocalInteraction`.
"""

import math

import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from glscl.config import GLSCLConfig
from glscl.data.dataset import Split
from glscl.model import GLSCL, LocalInteraction, Videos

DEAD = 0.99
START, WORDS, END, PADDING = "[start]", "words", "[end]", "[padding]"


def mean_cosines(left: Tensor, right: Tensor) -> Tensor:
    """Cosine of concept k in `left` with concept l in `right` of that item, mean over items: (concepts, concepts)."""
    return torch.einsum("ikd,ild->kl", left.double(), right.double()) / len(left)


def effective_rank(concepts: Tensor) -> Tensor:
    """How many directions the concepts of each item span: (items,), between 1 and the number of concepts.

    The exponential of the entropy of the eigenvalues, divided by their sum, of the Gram matrix of an item's concepts
    (Roy and Vetterli, "The effective rank", EUSIPCO 2007, there with singular values).
    """
    gram = concepts.double() @ concepts.double().transpose(1, 2)
    shares = torch.linalg.eigvalsh(gram).clamp(min=0)
    return torch.special.entr(shares / shares.sum(1, keepdim=True)).sum(1).exp()


def within_items(concepts: Tensor) -> Tensor:
    """Mean cosine of two different concepts of each item, (items,)."""
    count = concepts.shape[1]
    return (concepts.double().sum(1).square().sum(-1) - count) / (count * (count - 1))


def across_items(concepts: Tensor) -> Tensor:
    """Mean cosine of each concept between two different items, (concepts,); near 1 it hardly depends on the item."""
    items = len(concepts)
    return (concepts.double().sum(0).square().sum(-1) - items) / (items * (items - 1))


def of_items(texts: Tensor, videos: Tensor, video_of_text: Tensor) -> dict[str, Tensor]:
    """Statistics of every item, of text concepts (texts, concepts, width) and video concepts (videos, concepts, width).

    For texts, (texts,): `matched`, the mean cosine of concept k of a text with concept k of its own video;
    `wrong_pair`, the same with the video half the gallery further on; `within_text`, the mean cosine of two different
    concepts; `rank_text`, `effective_rank`. For videos, (videos,): `within_video` and `rank_video`.
    Raises ValueError for fewer than 2 concepts, texts or videos, whose cosines would not exist.
    """
    count = texts.shape[1]
    if min(count, len(texts), len(videos)) < 2:
        raise ValueError(
            f"expected at least 2 concepts, texts and videos, got {count}, {len(texts)} and {len(videos)}; "
            "compare concepts on a larger split, or leave a model of one concept out."
        )
    wrong = (video_of_text + len(videos) // 2) % len(videos)
    return {
        "matched": (texts.double() * videos[video_of_text]).sum(-1).mean(-1),
        "wrong_pair": (texts.double() * videos[wrong]).sum(-1).mean(-1),
        "within_text": within_items(texts),
        "rank_text": effective_rank(texts),
        "within_video": within_items(videos),
        "rank_video": effective_rank(videos),
    }


def diversity(texts: Tensor, videos: Tensor, video_of_text: Tensor) -> dict[str, float]:
    """Means over items of `of_items`, whose arguments and errors it has, and more statistics.

    `different`: mean cosine of concept k of a text with another concept of its own video. `across_*`: mean of
    `across_items`. `dead_*`: share of concepts whose `across_items` is above 0.99.
    """
    found = {name: values.mean().item() for name, values in of_items(texts, videos, video_of_text).items()}
    paired = mean_cosines(texts, videos[video_of_text])
    found["different"] = paired[~torch.eye(len(paired), dtype=torch.bool)].mean().item()
    for name, concepts in (("text", texts), ("video", videos)):
        alike = across_items(concepts)
        found[f"across_{name}"] = alike.mean().item()
        found[f"dead_{name}"] = (alike > DEAD).double().mean().item()
    return found


def spread(count: int, most: int) -> np.ndarray:
    """Positions of `most` of `count` items at most, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def project(points: Tensor, perplexity: float, seed: int = 0) -> np.ndarray:
    """t-SNE of points (points, width) by cosine distance, started from their principal components: (points, 2).

    On one machine the same points give the same positions. Raises ValueError where the points are too few.
    """
    if perplexity >= len(points):
        raise ValueError(
            f"a map of {len(points)} points needs a perplexity below {len(points)}, got {perplexity}: lower "
            "`concepts.perplexity`, or show more pairs or concepts."
        )
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    with threadpool_limits(1):  # the order in which threads add up their sums is not fixed
        return tsne.fit_transform(points.numpy())


@torch.inference_mode()
def attention(local: LocalInteraction, memory: Tensor, mask: Tensor) -> Tensor:
    """Cross-attention weights of the last decoder layer, mean over heads: (items, concepts, positions), on the CPU.

    memory (items, positions, width), mask (items, positions). The weights of an item and concept sum to 1.
    """
    last, seen = local.decoder.layers[-1].multihead_attn, {}
    # the decoder asks for no weights, so the same call is made once more
    hook = last.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True
    )
    try:
        local(memory.to(local.queries.device), mask.to(local.queries.device))
    finally:
        hook.remove()
    return last(*seen["args"], **seen["kwargs"] | {"need_weights": True})[1].cpu()


def frame_attention(model: GLSCL, videos: Videos, batch_size: int = 256) -> Tensor:
    """`attention` of every video of `glscl.encoding.encode_split`, (videos, concepts, frames)."""
    batches = zip(videos.frames.split(batch_size), videos.mask.split(batch_size), strict=True)
    return torch.cat([attention(model.head.local, *batch) for batch in batches])


@torch.inference_mode()
def word_attention(model: GLSCL, split: Split, batch_size: int = 256) -> Tensor:
    """`attention` of every text of a split, (texts, concepts, words)."""
    weights = []
    for index in torch.arange(len(split)).split(batch_size):
        batch = {name: tensor.to(model.device) for name, tensor in split.text_batch(index).items()}
        words, mask = batch.get("words"), batch["word_mask"]
        if words is None:
            words = model.text_features(batch["token_ids"], mask)[1]
        weights.append(attention(model.head.local, words, mask))
    return torch.cat(weights)


def by_word(weights: Tensor, token_ids: Tensor, mask: Tensor, tokenizer) -> pd.DataFrame:
    """Attention (texts, concepts, words) as a table: one row per word of a text, in reading order.

    Columns are `text` (its index), `word`, and 0 to concepts - 1 with the weight. Tokens that are pieces of one word
    are added up; `[start]`, `[end]` and all of the `[padding]` of a text have rows of their own.
    """
    tokens = np.array([tokenizer.convert_ids_to_tokens(ids) for ids in token_ids.tolist()], dtype=object)
    real = mask.bool().numpy()
    special = {tokenizer.bos_token: START, tokenizer.eos_token: END}
    ends = np.array([[token in special or token.endswith("</w>") for token in row] for row in tokens])
    number = np.where(real, np.cumsum(ends, axis=1) - ends, tokens.shape[1])
    tokens[~real] = ""  # joined, these stay one empty word
    table = pd.DataFrame(weights.transpose(1, 2).flatten(0, 1).double().numpy())
    table["word"] = [special.get(token, token.removesuffix("</w>")) for token in tokens.flat]
    keys = [np.repeat(np.arange(len(tokens)), tokens.shape[1]), number.ravel()]
    joined = table.groupby(keys).agg({"word": "".join} | dict.fromkeys(range(weights.shape[1]), "sum"))
    joined.insert(0, "text", joined.index.get_level_values(0))
    return joined.replace({"word": {"": PADDING}}).reset_index(drop=True)


def favourite_words(words: pd.DataFrame, least: int = 10, top: int = 5) -> list[list[str]]:
    """Per concept the `top` words of a `by_word` table with the highest mean weight, best first.

    Only words that occur at least `least` times; not start, end and padding.
    """
    groups = words[~words["word"].isin([START, END, PADDING])].drop(columns="text").groupby("word")
    means = groups.mean()[groups.size() >= least]
    return [means[concept].nlargest(top).index.tolist() for concept in means]


def shares_by_kind(words: pd.DataFrame) -> pd.DataFrame:
    """Share of each concept's attention, mean over texts, by kind of token: (concepts, kinds), rows add up to 1.

    words: a `by_word` table. Kinds: start, words, end and padding.
    """
    special = words["word"].isin([START, END, PADDING])
    weights = words.drop(columns=["text", "word"]).groupby(words["word"].where(special, WORDS)).sum()
    return weights.reindex([START, WORDS, END, PADDING], fill_value=0.0).T / words["text"].nunique()


def padding_share(weights: Tensor, mask: Tensor) -> float:
    """Share of attention (items, concepts, positions) on positions that are absent in mask (items, positions)."""
    return (weights * (mask == 0)[:, None]).sum(-1).mean().item()


def frame_weights(sentence: Tensor, videos: Videos, config: GLSCLConfig) -> Tensor:
    """Weights of the global interaction's text-conditioned mean for pairs of text i with video i: (pairs, frames).

    sentence (pairs, width); `videos` holds one entry per pair.
    """
    temperature = math.inf if config.global_pooling == "mean" else config.temperature
    products = torch.einsum("pd,pfd->pf", sentence.float(), videos.frames)
    return (products / temperature).masked_fill(videos.mask == 0, -math.inf).softmax(-1)


def normalised_entropy(weights: Tensor, mask: Tensor) -> Tensor:
    """Entropy of weights (pairs, frames) over the log of the number of real frames: (pairs,), 1 for a plain mean.

    A video of a single frame is its plain mean.
    """
    frames = mask.sum(1)
    return torch.where(frames > 1, torch.special.entr(weights).sum(1) / frames.clamp(min=2).log(), 1.0)
