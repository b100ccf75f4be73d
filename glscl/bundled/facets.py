"""`facets`: a corpus of features without videos, in which what a head can and cannot find is known.

A video shows events one after another, an event shows objects on a background, and a text tells some facts of some of
them, after the grammar of the bundled clips. Instead of pixels and a CLIP there are features composed of facts:

* Every value of a factor, such as `red`, has a random unit vector for pictures and one for texts; `alignment` is their
  cosine. The vector of a frame is the sum over what it shows, and so is the sentence's over what it tells.
* Which colour belongs to which shape is seen weakly: each pair of the two has a vector of its own, of length `binding`.
* A word carries its own fact and, as in CLIP's causal text tower, a decaying rest of the words before it. Nothing says
  which clause a word belongs to, or which event comes first, but this rest and the positions.
* Norms and cosines are of CLIP's order: all vectors of a modality lie in a cone around a mean of their own, away from
  the origin (arXiv 2203.02053; arXiv 2411.14517): two random items of a modality have a cosine of about `CONE`.

Noise is Gaussian: one part is drawn for each frame or word, one for the whole item. `ceilings` says what a matcher
would reach that knows every fact without noise. Where objects share a frame, the mean of a video's frames does not say
which facts belong together, apart from `binding`; where a video shows one object only, the mean of its frames says all.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from glscl.bundled.grammar import FACTORS, write_told
from glscl.bundled.oracle import KINDS
from glscl.config import at_least
from glscl.data.processor import Processor, images_of
from glscl.files import replacing, write_table
from glscl.metrics import expected_recalls

NAMES = list(FACTORS)  # shape, colour, size, motion, background
VALUES = [list(values) for values in FACTORS.values()]
SPOKEN = ("size", "colour", "shape", "motion", "background")  # in the order of a clause
SHAPE, COLOUR, BACKGROUND = (NAMES.index(name) for name in ("shape", "colour", "background"))
NORM = 10.0  # of every vector, as in the released CLIP
CONE = 0.5  # mean cosine of two items of a modality
GAP = 0.4  # cosine of the means of the two modalities
CONTEXT = 0.5  # share of a word that the next one still carries
OF_ITEM = 0.5  # size of the noise that all frames or words of an item share, over that of each
WORD_NOISE = 0.5  # size of the noise of texts over that of pictures
TWINS = ("colour", "order", "shape", "motion")


@dataclass(frozen=True)
class Facets:
    """What the corpus is made of.

    train, val, test: videos. captions: texts of each training video; other videos have one. width: of the features.
    events: of a video, one after another over its `frames`. objects: of an event. concepts: objects that a text tells
    of, from different events. facts: told of each. ordered: whether texts tell events in the order of time, joined by
    "then"; else in any order, joined by "and". seen: factors that pictures show. alignment: cosine of the vectors of a
    value in pictures and in texts; 1: one codebook, 0: separate ones. binding: length of what tells that a colour
    belongs to a shape. noise: its length over that of the content of a frame. look: share of the pictures' codebook
    that another one replaces. wording: 0, or 1 for other words of the same meaning. logit_scale: of the small CLIP, the
    inverse temperature that heads start from; 100 as in the released CLIP. seed: of videos and texts; codebooks stay.
    Raises ValueError where the numbers do not fit.
    """

    train: int = 3000
    val: int = 500
    test: int = 1000
    captions: int = 2
    width: int = 128
    frames: int = 8
    events: int = 3
    objects: int = 1
    concepts: int = 2
    facts: int = 3
    ordered: bool = True
    seen: tuple[str, ...] = tuple(NAMES)
    alignment: float = 0.8
    binding: float = 0.5
    noise: float = 0.5
    look: float = 0.0
    wording: int = 0
    logit_scale: float = 100.0
    seed: int = 0

    def __post_init__(self):
        for name in ("train", "val", "test", "captions", "width", "events", "objects", "concepts", "facts"):
            at_least(name, getattr(self, name), 1)
        for name in ("binding", "noise", "wording", "seed"):
            at_least(name, getattr(self, name), 0)
        for name, low, high in (("concepts", 1, self.events), ("events", 1, self.frames), ("facts", 1, len(NAMES))):
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} must be from {low} to {high} here, got {getattr(self, name)}; correct it in params.yaml."
                )
        at_least("logit_scale", self.logit_scale, 1)
        if self.wording > 1:
            raise ValueError(f"wording must be 0 or 1, got {self.wording}; correct it in params.yaml.")
        for name in ("alignment", "look"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)}; correct it in params.yaml.")
        if unknown := sorted(set(self.seen) - set(NAMES)):
            raise ValueError(f"seen may name {', '.join(NAMES)}, got {', '.join(unknown)}; correct the spelling.")

    @property
    def words(self) -> int:
        """Tokens of a text: start, facts, what joins clauses, end."""
        return self.concepts * self.facts + self.concepts - 1 + 2


def require_inputs(made: Facets, inputs: dict, folder: Path) -> None:
    """Raise ValueError unless inputs (`clip`, `backbone`, `frames`, `words`) are those of the corpus in this folder."""
    wanted = {"clip": str(folder / "clip"), "backbone": "frozen", "frames": made.frames, "words": made.words}
    if inputs != wanted:
        raise ValueError(f"the inputs of a corpus of features must be {wanted}, got {inputs}; correct params.yaml.")


class Codebooks(NamedTuple):
    """Unit vectors of values, (values, width) by factor, of colours with shapes, (shapes, colours, width), and others.

    joints: start, what joins two clauses in order, and in any order, (3, width). centre: the mean, (width,).
    """

    values: list[np.ndarray]
    pairs: np.ndarray
    joints: np.ndarray
    centre: np.ndarray


class Videos(NamedTuple):
    """What videos show: values (videos, events, objects, factors), and the event of each frame, (videos, frames)."""

    values: np.ndarray
    event_of_frame: np.ndarray


class Texts(NamedTuple):
    """What texts tell: values (texts, concepts, factors) and which of them are told, in the order of the text.

    owner: (texts,), the video of each. told: (texts, concepts, factors), booleans. noise: (texts,), the text whose
    noise this one has: itself, or for a twin the true text.
    """

    owner: np.ndarray
    values: np.ndarray
    told: np.ndarray
    noise: np.ndarray


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors, (..., width), at unit length."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _mixed(vectors: np.ndarray, cosine: float, rng: np.random.Generator) -> np.ndarray:
    """Vectors of about this cosine with the given unit vectors."""
    return unit(cosine * vectors + math.sqrt(1 - cosine**2) * unit(rng.normal(size=vectors.shape)))


def codebooks(made: Facets) -> tuple[Codebooks, Codebooks]:
    """Codebooks of pictures and of texts; the same for every `seed`."""
    rng = np.random.default_rng([2405, made.width])
    values = [unit(rng.normal(size=(len(of), made.width))) for of in VALUES]
    pairs = unit(rng.normal(size=(len(VALUES[SHAPE]), len(VALUES[COLOUR]), made.width)))
    joints = unit(rng.normal(size=(3, made.width)))
    centre = unit(rng.normal(size=made.width))
    texts = Codebooks(
        [_mixed(of, made.alignment, rng) for of in values],
        _mixed(pairs, made.alignment, rng),
        joints,
        _mixed(centre, GAP, rng),
    )
    other = [unit(rng.normal(size=of.shape)) for of in values]
    said = [unit(rng.normal(size=of.shape)) for of in values]
    if made.wording:
        texts = texts._replace(
            values=[
                np.where(_respelt(factor)[:, None], unit(of + new), of)
                for factor, of, new in zip(NAMES, texts.values, said, strict=True)
            ]
        )
    look = [unit((1 - made.look) * of + made.look * new) for of, new in zip(values, other, strict=True)]
    return Codebooks(look, pairs, joints, centre), texts


def _respelt(factor: str) -> np.ndarray:
    """Which values of a factor have a second word, (values,)."""
    return np.array([len(words) > 1 for words in FACTORS[factor].values()])


def draw_videos(made: Facets, count: int, rng: np.random.Generator) -> Videos:
    """Random videos; the objects of an event share its background, and every event has a frame at least."""
    values = np.stack([rng.integers(0, len(of), (count, made.events, made.objects)) for of in VALUES], axis=-1)
    values[..., BACKGROUND] = values[:, :, :1, BACKGROUND]
    starts = rng.random((count, made.frames - 1)).argsort(axis=1)[:, : made.events - 1] + 1
    return Videos(values, (np.arange(made.frames)[None, :, None] >= starts[:, None, :]).sum(-1))


def draw_texts(made: Facets, videos: Videos, owner: np.ndarray, rng: np.random.Generator) -> Texts:
    """A random text of each of the videos `owner` (texts,)."""
    count = len(owner)
    which = rng.random((count, made.events)).argsort(axis=1)[:, : made.concepts]
    which = np.sort(which, axis=1) if made.ordered else which
    objects = rng.integers(0, made.objects, which.shape)
    told = rng.random((*which.shape, len(NAMES))).argsort(axis=-1) < made.facts
    return Texts(owner, videos.values[owner[:, None], which, objects], told, np.arange(count))


def agreement(made: Facets, texts: Texts, videos: Videos, kind: str) -> np.ndarray:
    """How many told facts hold of each video, (texts, videos), for a matcher that knows every fact.

    kind: `bag` asks of each fact alone whether the video shows it; `bound` asks it of one object for all facts of a
    concept; `ordered` also asks that the concepts belong to events in the order of time.
    """
    scores = []
    for values, told in zip(texts.values, texts.told, strict=True):
        shown = (videos.values[:, None] == values[None, :, None, None]) & told[None, :, None, None]
        if kind == "bag":  # (videos, concepts, events, objects, factors)
            scores.append(shown.any((2, 3)).sum((1, 2)))
            continue
        of_event = shown.sum(-1).max(-1)  # (videos, concepts, events)
        if kind == "bound" or not made.ordered:
            scores.append(of_event.max(-1).sum(-1))
            continue
        best = np.zeros((len(shown), made.events + 1))  # of the concepts so far, the last within the first events
        for concept in range(made.concepts):
            longer = np.full_like(best, -np.inf)
            longer[:, 1:] = best[:, :-1] + of_event[:, concept]
            best = np.maximum.accumulate(longer, axis=1)
        scores.append(best[:, -1])
    return np.stack(scores).astype(float)


def twin_texts(made: Facets, texts: Texts, videos: Videos, kind: str, rng: np.random.Generator) -> Texts:
    """The texts with one thing changed so that they are false of their video; those without such a twin are left out.

    kind: `colour` swaps the colours of the first two concepts, `order` the concepts, `shape` and `motion` replace one
    told value by another. `noise` names the text that each is made of.
    """
    values, told = texts.values.copy(), texts.told.copy()
    rows = np.arange(len(values))
    if kind in ("colour", "order"):
        if made.concepts < 2 or (kind == "order" and not made.ordered):
            return Texts(*(part[:0] for part in texts))
        two = told[:, :2, COLOUR].all(1) if kind == "colour" else np.ones(len(rows), bool)
        if kind == "colour":
            values[:, [0, 1], COLOUR] = values[:, [1, 0], COLOUR]
        else:
            values[:, [0, 1]], told[:, [0, 1]] = values[:, [1, 0]], told[:, [1, 0]]
    else:
        factor = NAMES.index(kind)
        concept, two = told[:, :, factor].argmax(1), told[:, :, factor].any(1)
        shift = rng.integers(1, len(VALUES[factor]), len(rows))
        values[rows, concept, factor] = (values[rows, concept, factor] + shift) % len(VALUES[factor])
    changed = Texts(texts.owner, values, told, texts.noise)
    kept = [row for row in rows[two] if _false(made, changed, videos, row)]
    return Texts(*(part[kept] for part in changed))


def _false(made: Facets, texts: Texts, videos: Videos, row: int) -> bool:
    one = Texts(*(part[[row]] for part in texts))
    own = Videos(*(part[texts.owner[[row]]] for part in videos))
    return agreement(made, one, own, "ordered").item() < texts.told[row].sum()


class Noise(NamedTuple):
    """Standard Gaussian noise of each position (items, positions, width), and of each item (items, 1, width)."""

    own: np.ndarray
    shared: np.ndarray

    @classmethod
    def draw(cls, items: int, positions: int, width: int, rng: np.random.Generator) -> "Noise":
        """New noise."""
        return cls(rng.normal(size=(items, positions, width)), rng.normal(size=(items, 1, width)))


def _in_cone(content: np.ndarray, centre: np.ndarray, noise: Noise, size: float) -> np.ndarray:
    """Content (items, positions, width), of length about 1, with noise of this size, in the cone of its modality."""
    noisy = content + size / math.sqrt(content.shape[-1]) * (noise.own + OF_ITEM * noise.shared)
    noisy /= math.sqrt(1 + size**2 * (1 + OF_ITEM**2))
    return (NORM * unit(math.sqrt(CONE) * centre + math.sqrt(1 - CONE) * noisy)).astype(np.float32)


def frame_features(made: Facets, videos: Videos, rng: np.random.Generator) -> np.ndarray:
    """Features of the frames, (videos, frames, width), float32."""
    book, _ = codebooks(made)
    seen = [name in made.seen for name in NAMES]
    vectors = [of[videos.values[..., i]] * seen[i] for i, of in enumerate(book.values)]
    backgrounds = vectors.pop(BACKGROUND)[:, :, 0]
    pairs = book.pairs[videos.values[..., SHAPE], videos.values[..., COLOUR]]
    pairs = made.binding * (seen[SHAPE] and seen[COLOUR]) * pairs
    content = backgrounds + (sum(vectors) + pairs).sum(2)  # (videos, events, width)
    content /= math.sqrt(made.objects * (len(vectors) + made.binding**2) + 1)
    count, frames = videos.event_of_frame.shape
    shown = content[np.arange(count)[:, None], videos.event_of_frame]
    return _in_cone(shown, book.centre, Noise.draw(count, frames, made.width, rng), made.noise)


def word_features(made: Facets, texts: Texts, noise: Noise) -> np.ndarray:
    """Features of the words, (texts, words, width), float32; the last is the sentence's.

    noise: of the texts whose rows `texts.noise` names, so that a twin differs from its true text in what it tells.
    """
    _, book = codebooks(made)
    joint = book.joints[1 if made.ordered else 2]
    words = np.zeros((len(texts.owner), made.words, made.width))
    for row, (values, told) in enumerate(zip(texts.values, texts.told, strict=True)):
        clauses = []
        for of, chosen in zip(values, told, strict=True):
            clause = {i: book.values[i][of[i]] for i in map(NAMES.index, SPOKEN) if chosen[i]}
            if chosen[SHAPE] and chosen[COLOUR]:  # the shape comes after the colour, and is read with it
                clause[SHAPE] = clause[SHAPE] + made.binding * book.pairs[of[SHAPE], of[COLOUR]]
            clauses.append(list(clause.values()))
        read = book.joints[0]
        words[row, 0] = read
        for position, word in enumerate([word for clause in clauses for word in (joint, *clause)][1:], start=1):
            read = word + CONTEXT * read
            words[row, position] = read
        words[row, -1] = sum(map(sum, clauses))
    chosen = Noise(*(part[texts.noise] for part in noise))
    return _in_cone(unit(words), book.centre, chosen, WORD_NOISE * made.noise)


def sentences(made: Facets, texts: Texts) -> list[str]:
    """The texts in words, such as "a red star spins then a small thing falls at night"."""
    joint = " then " if made.ordered else " and "
    return [
        joint.join(_clause(made, facts) for facts in _facts(values, told))
        for values, told in zip(texts.values, texts.told, strict=True)
    ]


def _facts(values: np.ndarray, told: np.ndarray) -> list[dict[str, str]]:
    """What one text tells, concept by concept: {factor: value}."""
    return [
        {name: VALUES[i][of[i]] for i, name in enumerate(NAMES) if chosen[i]}
        for of, chosen in zip(values, told, strict=True)
    ]


def _clause(made: Facets, facts: dict[str, str]) -> str:
    said = {name: FACTORS[name][value][-1 if made.wording else 0].split("/")[0] for name, value in facts.items()}
    words = [said[name] for name in ("size", "colour") if name in said] + [said.get("shape", "thing")]
    words += [said[name] for name in ("motion", "background") if name in said]
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


class World(NamedTuple):
    """The corpus in memory: what videos show and texts tell, and their features.

    texts: {split: texts}, the twins among them. frames: features (videos, frames, width) of all videos, train, val and
    test one after another. words: {split: features (texts, words, width)}.
    """

    made: Facets
    videos: Videos
    texts: dict[str, Texts]
    frames: np.ndarray
    words: dict[str, np.ndarray]

    def of(self, split: str) -> tuple[Videos, Texts]:
        """Videos that texts of a split tell of, in the order of the texts, and the texts, owners counted from 0."""
        owners, owner = np.unique(self.texts[split].owner, return_inverse=True)
        return Videos(*(part[owners] for part in self.videos)), self.texts[split]._replace(owner=owner)

    def ceilings(self) -> dict[str, dict[str, float]]:
        """R@1 and R@10 (percent) on the test split of a matcher that knows every fact that pictures show.

        Ties are broken at random, and the expected recalls are returned: {kind: {"R@1", "R@10"}}. With mid ranks a
        matcher for which two videos are the same would find neither, and a head that guesses would stand above it.
        One that also weighs in how many ways a video fits a text would find a little more: 1.2 points in the nearly
        blind world of the full profile, less in its other worlds.
        """
        videos, texts = self.of("test")
        texts = texts._replace(told=texts.told & np.isin(NAMES, self.made.seen))
        return {kind: expected_recalls(agreement(self.made, texts, videos, kind), texts.owner) for kind in KINDS}

    def captions(self) -> pd.DataFrame:
        """The table of texts: caption_id, video, text, split, told, and of twins the caption_id `of` the true text."""
        parts = []
        for split, texts in self.texts.items():
            told = [write_told(_facts(*one)) for one in zip(texts.values, texts.told, strict=True)]
            videos = [f"facets{owner:05d}" for owner in texts.owner]
            part = pd.DataFrame({"video": videos, "text": sentences(self.made, texts), "split": split, "told": told})
            parts.append(part.assign(row=texts.noise))
        table = pd.concat(parts, ignore_index=True).rename_axis("caption_id").reset_index()
        first = table.loc[table["split"] == "test", "caption_id"].min()
        twin = table["split"].str.startswith("twin")
        return table.assign(of=(table["row"] + first).where(twin).astype("Int64")).drop(columns="row")


def make(made: Facets) -> World:
    """Draw the corpus; the same settings give the same one."""
    rng = np.random.default_rng([2405, made.seed])
    videos = draw_videos(made, made.train + made.val + made.test, rng)
    frames = frame_features(made, videos, rng)
    texts, words, start = {}, {}, 0
    for split, count, captions in (("train", made.train, made.captions), ("val", made.val, 1), ("test", made.test, 1)):
        texts[split] = draw_texts(made, videos, np.repeat(np.arange(start, start + count), captions), rng)
        noise = Noise.draw(count * captions, made.words, made.width, rng)
        words[split] = word_features(made, texts[split], noise)
        start += count
    for kind in TWINS:
        texts[f"twin_{kind}"] = twin_texts(made, texts["test"], videos, kind, rng)
        words[f"twin_{kind}"] = word_features(made, texts[f"twin_{kind}"], noise)
    told = {split: of for split, of in texts.items() if len(of.owner)}
    return World(made, videos, told, frames, words)


def write(world: World, folder: str | Path, tokenizer: str | Path) -> None:
    """Write the corpus as the stages prepare and encode leave one: captions.parquet, features, and a small CLIP.

    folder: is replaced. tokenizer: of a CLIP whose tokenizer the small CLIP gets; its towers are random, as nothing is
    encoded with them.
    """
    with replacing(folder) as partial:
        (partial / "features").mkdir(parents=True)
        write_table(partial / "captions.parquet", world.captions())
        for split, texts in world.texts.items():
            owners, words = np.unique(texts.owner), torch.from_numpy(world.words[split])
            frames = torch.from_numpy(world.frames[owners])
            mask = torch.ones(words.shape[:2], dtype=torch.long)
            tensors = {"sentence": words[:, -1].contiguous().half(), "words": words.half(), "word_mask": mask}
            tensors |= {"frames": frames.half(), "frame_mask": torch.ones(frames.shape[:2], dtype=torch.long)}
            save_file(tensors, partial / "features" / f"{split}.safetensors")
        processor = Processor.from_pretrained(tokenizer, world.made.words)
        clip = small_clip(world.made, processor.tokenizer)
        images = images_of(clip.config.vision_config.image_size)
        replace(processor, images=images).save_pretrained(partial / "clip")
        clip.save_pretrained(partial / "clip")


def small_clip(made: Facets, tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP of random weights (seed 0): heads take the form of its text blocks and its logit scale from it."""
    torch.manual_seed(0)
    width, scale = made.width, math.log(made.logit_scale)
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    tower = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 32,
             "hidden_act": "quick_gelu", "projection_dim": width}  # fmt: skip
    text = tower | ends | {"num_hidden_layers": 3, "vocab_size": len(tokenizer), "max_position_embeddings": 64}
    vision = tower | {"num_hidden_layers": 1, "image_size": 16, "patch_size": 16}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=width, logit_scale_init_value=scale)
    )


def build(made: Facets, folder: str | Path, tokenizer: str | Path = "data/tiny-clip") -> World:
    """Draw the corpus and write it to a folder; see `make` and `write`."""
    world = make(made)
    write(world, folder, tokenizer)
    return world
