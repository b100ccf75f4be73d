"""The bundled tiny CLIP: its image tower learns to see on drawn stills, then its text tower learns to read for it."""

import copy
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from glscl.child_process import end_with_parent

from . import probes
from .corpora import SEED
from .drawing import LOOKS, SIZE, compressed, frame, ground
from .grammar import FACTORS, caption, draw_event, paragraph, still_caption

STILLS, HELD_OUT = 80_000, 500
CAPTIONS = 4  # per still
PATCH, WIDTH = 16, 192  # pixels; of the image tower
SEEING = {"steps": 5000, "batch": 64, "rate": 1e-3}
READING = {"steps": 1000, "batch": 128, "rate": 1e-3}
SHAPE = 3.0  # weight of the shape among the factors to classify: it is learnt last
THREADS = 1  # another number sums in another order and gives other weights
NORM = 10.0  # mean length of projected vectors, as in the released CLIP
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
WORDS = 64  # positions of the text tower


class Stills(NamedTuple):
    """Pictures (stills, 64, 64, 3) uint8, the captions of each, and per factor the share of each value shown."""

    images: np.ndarray
    texts: list[list[str]]
    shares: dict[str, torch.Tensor]


def draw_still(number: int) -> tuple[np.ndarray, list[str], list[list[str]]]:
    """One picture of one or two moving shapes, (64, 64, 3) uint8, its captions, and per factor the values shown."""
    rng = np.random.default_rng([SEED, len(LOOKS), number])
    events = [draw_event(rng) for _ in range(rng.choice([1, 2], p=[0.85, 0.15]))]
    look, time = LOOKS[rng.integers(2)], rng.random()
    image = frame(events, time, look, ground(events[0].background, look, rng))
    image = compressed(image, rng)
    captions = []
    for _ in range(CAPTIONS):
        told = len(events) if rng.random() < 0.6 else 1
        captions.append(still_caption(events[:told], rng))
    shown = [[getattr(event, factor) for event in events] for factor in FACTORS]
    shown[-1] = shown[-1][:1]  # one picture has one background, the first event's
    return np.asarray(image), captions, shown


def draw_stills(numbers: range, workers: int) -> Stills:
    """The stills with these numbers, the same for every number of workers."""
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        drawn = list(pool.map(draw_still, numbers, chunksize=256))
    shares = {
        factor: _shares([shown[i] for _, _, shown in drawn], list(FACTORS[factor])) for i, factor in enumerate(FACTORS)
    }
    return Stills(np.stack([image for image, _, _ in drawn]), [captions for _, captions, _ in drawn], shares)


def _shares(shown: list[list[str]], values: list[str]) -> torch.Tensor:
    """Per picture the share of each value among those shown: (pictures, values)."""
    table = torch.zeros(len(shown), len(values))
    for row, found in enumerate(shown):
        for value in found:
            table[row, values.index(value)] += 1 / len(found)
    return table


def train_tokenizer() -> CLIPTokenizer:
    """A lower-casing byte-level BPE tokenizer of the grammar's words; words it never saw fall into characters."""
    rng = np.random.default_rng([SEED, len(LOOKS) + 1])
    texts = []
    for _ in range(4000):
        events = [draw_event(rng) for _ in range(6)]
        texts += [
            caption(events, rng)[0],
            paragraph(events, rng)[0],
            still_caption(events[:1], rng),
        ]
    learnt = CLIPTokenizer().train_new_from_iterator([texts], 2000, initial_alphabet=ByteLevel.alphabet())
    merges = [tuple(merge) for merge in json.loads(learnt.backend_tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *[letter + "</w>" for letter in alphabet], *["".join(merge) for merge in merges]]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({token: i for i, token in enumerate(tokens)}, merges, model_max_length=WORDS)


def new_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of some two million parameters with the tokenizer's vocabulary."""
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
            "hidden_act": "quick_gelu", "projection_dim": 128}  # fmt: skip
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": WORDS, "bos_token_id": tokenizer.bos_token_id,
             "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    # ReLU costs a CPU less than CLIP's own activation; heads copy blocks of the text tower alone.
    vision = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 3,
              "num_attention_heads": WIDTH // 64, "hidden_act": "relu", "projection_dim": 128,
              "image_size": SIZE, "patch_size": PATCH}  # fmt: skip
    model = CLIPModel(CLIPConfig(text_config=text | words, vision_config=vision, projection_dim=128))
    # CLIP's own start, where all places look alike beside the patches, takes many more stills to learn shapes from.
    side = SIZE // PATCH
    phases = np.pi * torch.arange(side)[:, None] / side * torch.linspace(0.5, side / 2, WIDTH // 4)
    waves = 0.3 * torch.cat([phases.sin(), phases.cos()], dim=1)
    places = torch.cat([waves[:, None].expand(-1, side, -1), waves.expand(side, -1, -1)], dim=-1)
    model.vision_model.embeddings.position_embedding.weight.data[1:] = places.flatten(0, 1)
    return model


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """Images (items, height, width, 3) uint8 as CLIP wants them: (items, 3, height, width)."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]


@torch.no_grad()
def see(model: CLIPModel, images: np.ndarray, projected: bool = True) -> torch.Tensor:
    """Image vectors, (items, 128), not normalised; or what the image tower gives to the projection."""
    parts = [model.vision_model(to_pixels(images[i : i + 250])).pooler_output for i in range(0, len(images), 250)]
    return model.visual_projection(torch.cat(parts)) if projected else torch.cat(parts)


def read(model: CLIPModel, tokens: np.ndarray) -> torch.Tensor:
    """Text vectors of tokens (texts, words), padded, as (texts, 128), not normalised."""
    # Texts of like length go together: padding to the longest would double the work.
    lengths = (tokens == model.config.text_config.eos_token_id).argmax(axis=1) + 1
    order = np.argsort(lengths, kind="stable")
    parts = [
        model.get_text_features(torch.from_numpy(tokens[part, : lengths[part].max()]).long()).pooler_output
        for part in np.array_split(order, min(4, len(order)))
    ]
    return torch.cat(parts)[np.argsort(order)]


def tokenise(tokenizer: CLIPTokenizer, texts: list[str]) -> np.ndarray:
    """Tokens of texts, (texts, 64) int16, padded."""
    found = tokenizer(texts, padding="max_length", truncation=True, max_length=WORDS, return_tensors="np")
    return found["input_ids"].astype(np.int16)


def descend(model: CLIPModel, others: list, loss_of, setting: dict, stills: int) -> None:
    """Take AdamW steps on those parameters of the model that want gradients, and on `others`.

    loss_of(copy, batch): the loss that a bfloat16 copy of the model has on stills of these numbers. The copy computes,
    which matrix units of CPUs do several times faster, and the model learns in single precision.
    """
    rng = np.random.default_rng(SEED)
    learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    quick = copy.deepcopy(model).bfloat16()
    quick.set_attn_implementation("eager")  # the fused attention is slower on a CPU
    pairs = [(parameter, quick.get_parameter(name)) for name, parameter in learning]
    parameters = [*[parameter for _, parameter in learning], *others]
    steps, batch = setting["steps"], setting["batch"]
    optimiser = torch.optim.AdamW(parameters, setting["rate"], betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, setting["rate"], steps, pct_start=0.05, anneal_strategy="linear", cycle_momentum=False
    )
    order = np.concatenate([rng.permutation(stills) for _ in range(steps * batch // stills + 1)])
    for step in range(steps):
        loss = loss_of(quick, order[step * batch : (step + 1) * batch])
        optimiser.zero_grad()
        loss.backward()
        for parameter, copied in pairs:
            parameter.grad, copied.grad = copied.grad.float(), None
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for parameter, copied in pairs:
                copied.copy_(parameter)
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)


def learn_to_see(model: CLIPModel, stills: Stills) -> None:
    """Train the image tower to classify what is shown, from its projected vector.

    CLIP's contrastive loss alone teaches so small a transformer colours and backgrounds, but shapes only with millions
    of pictures.
    """
    heads = torch.nn.ModuleDict({f: torch.nn.Linear(128, shares.shape[1]) for f, shares in stills.shares.items()})

    def loss_of(quick, batch):
        vectors = quick.get_image_features(to_pixels(stills.images[batch]).bfloat16()).pooler_output.float()
        terms = {factor: cross_entropy(heads[factor](vectors), stills.shares[factor][batch]) for factor in heads}
        return sum(terms.values()) + (SHAPE - 1) * terms["shape"]

    model.requires_grad_(False)
    for part in (model.vision_model, model.visual_projection):
        part.requires_grad_(True)
    descend(model, list(heads.parameters()), loss_of, SEEING, len(stills.images))


def learn_to_read(model: CLIPModel, tokenizer: CLIPTokenizer, stills: Stills) -> None:
    """Train the text tower and both projections by CLIP's loss, the image tower locked (LiT, Zhai et al., 2022)."""
    seen = see(model, stills.images, projected=False).bfloat16()
    tokens = tokenise(tokenizer, [text for captions in stills.texts for text in captions])
    tokens = tokens.reshape(len(stills.texts), CAPTIONS, WORDS)
    rng = np.random.default_rng(SEED)

    def loss_of(quick, batch):
        image = normalize(quick.visual_projection(seen[batch]).float(), dim=-1)
        text = normalize(read(quick, tokens[batch, rng.integers(CAPTIONS, size=len(batch))]).float(), dim=-1)
        logits = text @ image.T * quick.logit_scale.float().exp()
        target = torch.arange(len(batch))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    model.requires_grad_(True)
    model.vision_model.requires_grad_(False)
    descend(model, [], loss_of, READING, len(stills.images))


def train(stills: Stills, held_out: Stills) -> tuple[CLIPModel, CLIPTokenizer, float]:
    """Train on the stills; also returns R@1 (percent) of texts among the held-out stills."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    tokenizer = train_tokenizer()
    model = new_model(tokenizer)
    learn_to_see(model, stills)
    learn_to_read(model, tokenizer, stills)
    model.requires_grad_(True).eval()
    return model, tokenizer, rescale(model, tokenizer, held_out.images, [captions[0] for captions in held_out.texts])


@torch.no_grad()
def rescale(model: CLIPModel, tokenizer: CLIPTokenizer, images: np.ndarray, texts: list[str]) -> float:
    """Scale both projections to vectors of mean length `NORM` (cosines stay) and return R@1 (percent) of the texts."""
    tokens = tokenise(tokenizer, texts)
    image, text = see(model, images), read(model, tokens)
    model.visual_projection.weight *= NORM / image.norm(dim=-1).mean()
    model.text_projection.weight *= NORM / text.norm(dim=-1).mean()
    image, text = see(model, images), read(model, tokens)
    for vectors in (image, text):
        assert abs(vectors.norm(dim=-1).mean() - NORM) < 0.01
    image, text = (normalize(x, dim=-1) for x in (image, text))
    return 100 * ((text @ image.T).argmax(dim=1) == torch.arange(len(texts))).float().mean().item()


def build(data: Path, workers: int) -> dict[str, float]:
    """Train, check what the model sees, and write data/tiny-clip in half precision.

    Returns what `probes.accuracies` does and, in percent too, `R@1` of the texts among the held-out stills, and the
    `logit scale`, as it is multiplied. Raises what `probes.check` raises.
    """
    stills = draw_stills(range(STILLS), workers)
    model, tokenizer, recall = train(stills, draw_stills(range(STILLS, STILLS + HELD_OUT), workers))
    found = probes.accuracies(lambda images: see(model, images).numpy())
    found |= {"R@1": recall, "logit scale": model.logit_scale.exp().item()}
    probes.check(found)
    partial = data / "tiny-clip.part"
    shutil.rmtree(partial, ignore_errors=True)
    model.half().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    size = {"height": SIZE, "width": SIZE}
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=size, image_mean=MEAN, image_std=STD)
    processor.save_pretrained(partial)
    config = json.loads((partial / "config.json").read_text())
    config["dtype"] = "float32"  # half precision is for the disk alone: a loader computes in single precision
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (partial / "model.safetensors").chmod(0o644)  # the writer leaves it readable by its owner alone
    shutil.rmtree(data / "tiny-clip", ignore_errors=True)
    os.replace(partial, data / "tiny-clip")
    return found
