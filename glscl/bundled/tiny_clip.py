"""The bundled tiny CLIP: pre-trained on drawn stills, so that it sees shapes and places but no change in time."""

import io
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn.functional import cross_entropy, normalize
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from .corpora import SEED
from .drawing import LOOKS, SIZE, frame, ground, pose
from .grammar import FACTORS, caption, draw_event, paragraph, still_caption

STILLS, HELD_OUT = 60_000, 500
CAPTIONS = 4  # per still
STEPS, BATCH, LEARNING_RATE = 4000, 128, 1e-3
THREADS = 2  # another number sums in another order and gives other weights
CLASSIFICATION = 0.3  # weight of the classification of factors in pre-training
NORM = 10.0  # mean length of projected vectors, as in the released CLIP
MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
WORDS = 64  # positions of the text tower


def draw_still(number: int) -> tuple[np.ndarray, list[str], list[list[str]]]:
    """One picture of one or two moving shapes, (64, 64, 3) uint8, its captions, and per factor the values shown."""
    rng = np.random.default_rng([SEED, len(LOOKS), number])
    events = [draw_event(rng) for _ in range(rng.choice([1, 2], p=[0.75, 0.25]))]
    look, time = LOOKS[rng.integers(2)], rng.random()
    image = frame(events, time, look, ground(events[0].background, look, rng))
    if rng.random() < 0.6:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(rng.integers(30, 85)))
        image = Image.open(file)
    spots = [pose(event, time)[:2] for event in events]
    captions = []
    for _ in range(CAPTIONS):
        told = len(events) if rng.random() < 0.6 else 1
        captions.append(still_caption(events[:told], spots[:told], rng))
    shown = [[getattr(event, factor) for event in events] for factor in FACTORS]
    shown[-1] = shown[-1][:1]  # one picture has one background, the first event's
    return np.asarray(image), captions, shown


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
            still_caption(events[:1], [tuple(rng.random(2))], rng),
        ]
    learnt = CLIPTokenizer().train_new_from_iterator([texts], 2000, initial_alphabet=ByteLevel.alphabet())
    merges = [tuple(merge) for merge in json.loads(learnt.backend_tokenizer.to_str())["model"]["merges"]]
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *[letter + "</w>" for letter in alphabet], *["".join(merge) for merge in merges]]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({token: i for i, token in enumerate(tokens)}, merges, model_max_length=WORDS)


def new_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP of about two million parameters with the tokenizer's vocabulary."""
    tower = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4,
             "hidden_act": "quick_gelu", "projection_dim": 128}  # fmt: skip
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": WORDS, "bos_token_id": tokenizer.bos_token_id,
             "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    pixels = {"image_size": SIZE, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=tower | words, vision_config=tower | pixels, projection_dim=128))


def embed(
    model: CLIPModel, tokenizer: CLIPTokenizer, images: np.ndarray, texts: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Projected vectors of images (items, height, width, 3) uint8 and of texts, both (items, 128), not normalised."""
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / STD[0]
    # Texts of like length go together: padding to the longest would double the work.
    order = np.argsort([len(text) for text in texts], kind="stable")
    parts = []
    for part in np.array_split(order, 4):
        chosen = [texts[i] for i in part]
        tokens = tokenizer(chosen, padding=True, truncation=True, max_length=WORDS, return_tensors="pt")
        parts.append(model.get_text_features(**tokens).pooler_output)
    return model.get_image_features(pixels).pooler_output, torch.cat(parts)[np.argsort(order)]


def train(workers: int) -> tuple[CLIPModel, CLIPTokenizer, float]:
    """Train on the stills; also returns R@1 (percent) of texts among held-out stills.

    The loss is CLIP's contrastive one plus a classification of the drawn factors from the image vector, which a small
    transformer needs to learn shapes from tens of thousands of pictures instead of millions.
    """
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        stills = list(pool.map(draw_still, range(STILLS + HELD_OUT), chunksize=256))
    images = np.stack([image for image, _, _ in stills])
    texts = [captions for _, captions, _ in stills]
    labels = [_shares([shown[i] for _, _, shown in stills], list(FACTORS[factor])) for i, factor in enumerate(FACTORS)]
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    tokenizer = train_tokenizer()
    model = new_model(tokenizer).train()
    heads = torch.nn.ModuleList([torch.nn.Linear(model.projection_dim, label.shape[1]) for label in labels])
    parameters = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, STEPS, pct_start=0.1, cycle_momentum=False)
    order = np.concatenate([rng.permutation(STILLS) for _ in range(STEPS * BATCH // STILLS + 1)])
    for step in range(STEPS):
        batch = order[step * BATCH : (step + 1) * BATCH]
        chosen = [texts[i][rng.integers(CAPTIONS)] for i in batch]
        vectors = embed(model, tokenizer, images[batch], chosen)
        told = sum(cross_entropy(head(vectors[0]), label[batch]) for head, label in zip(heads, labels, strict=True))
        image, text = (normalize(x, dim=-1) for x in vectors)
        logits = text @ image.T * model.logit_scale.exp()
        target = torch.arange(BATCH)
        loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2 + CLASSIFICATION * told
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=np.log(100))
        if step % 200 == 0:
            print(f"step {step} of {STEPS}: loss {loss.item():.3f}", flush=True)
    model.eval()
    recall = rescale(model, tokenizer, images[STILLS:], [captions[0] for captions in texts[STILLS:]])
    return model, tokenizer, recall


@torch.no_grad()
def rescale(model: CLIPModel, tokenizer: CLIPTokenizer, images: np.ndarray, texts: list[str]) -> float:
    """Scale both projections to vectors of mean length `NORM` (cosines stay) and return R@1 (percent) of the texts."""
    image, text = embed(model, tokenizer, images, texts)
    model.visual_projection.weight *= NORM / image.norm(dim=-1).mean()
    model.text_projection.weight *= NORM / text.norm(dim=-1).mean()
    image, text = embed(model, tokenizer, images, texts)
    for vectors in (image, text):
        assert abs(vectors.norm(dim=-1).mean() - NORM) < 0.01
    image, text = (normalize(x, dim=-1) for x in (image, text))
    return 100 * ((text @ image.T).argmax(dim=1) == torch.arange(len(texts))).float().mean().item()


def build(data: Path, workers: int) -> float:
    """Train and write data/tiny-clip in half precision; returns R@1 (percent) among the held-out stills."""
    model, tokenizer, recall = train(workers)
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
    return recall
