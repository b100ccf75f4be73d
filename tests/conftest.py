"""Small models and batches that several tests share."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import CLIPConfig

from glscl.config import GLSCLConfig
from glscl.corpora import read_corpus
from glscl.inputs import Inputs, load_backbone
from glscl.model import GLSCL
from glscl.splits import Split, save_states
from glscl.video import FrameStore, Sampling, write_store

TINY_CLIP = {
    "projection_dim": 32,
    "text_config": {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "bos_token_id": 48,
        "eos_token_id": 49,
        "pad_token_id": 0,
    },
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    },
}


def make_config(**settings) -> GLSCLConfig:
    """A GLSCL configuration of width 32 with 4 queries."""
    defaults = {"num_queries": 4, "decoder_layers": 2, "decoder_heads": 4, "temporal_layers": 1, "dropout": 0.0}
    return GLSCLConfig(clip_config=CLIPConfig(**TINY_CLIP), **(defaults | settings))


@pytest.fixture
def make_model():
    """make_model(**settings) -> a small GLSCL in evaluation mode, seeded."""

    def make(**settings) -> GLSCL:
        torch.manual_seed(0)
        return GLSCL(make_config(**settings)).eval()

    return make


@pytest.fixture
def states():
    """CLIP-like states, norms of order 10: sentence, words, word_mask of 5 texts; frames, frame_mask of 7 videos."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return 2 * torch.randn(*shape, generator=generator)

    word_mask = (torch.arange(9) < torch.tensor([3, 9, 5, 4, 7])[:, None]).long()
    frame_mask = (torch.arange(6) < torch.tensor([6, 1, 4, 2, 6, 5, 3])[:, None]).long()
    return {
        "sentence": draw(5, 32),
        "words": draw(5, 9, 32),
        "word_mask": word_mask,
        "frames": draw(7, 6, 32),
        "frame_mask": frame_mask,
    }


@pytest.fixture(scope="session")
def bundled():
    """Folder of the bundled inputs."""
    folder = Path(__file__).parents[1] / "data"
    if not (folder / "tiny-clip").exists():
        pytest.skip("the bundled inputs are not here; run `dvc pull data.dvc`")
    return folder


@pytest.fixture(scope="session")
def corpus(bundled, tmp_path_factory):
    """A prepared corpus of 48 training, 12 validation and 12 test clips of `scenes`: folder, captions, inputs, CLIP."""
    work = tmp_path_factory.mktemp("corpus")
    table = read_corpus("scenes", bundled / "scenes")
    kept = {"train": 48, "val": 12, "test": 12}
    table = pd.concat(
        [rows[rows["video"].isin(rows["video"].unique()[: kept[s]])] for s, rows in table.groupby("split") if s in kept]
    )
    write_store(work / "frames", table.drop_duplicates("video"), Sampling(4), 64, workers=1, progress=False)
    inputs = Inputs.from_pretrained(bundled / "tiny-clip", 24)
    clip = load_backbone(bundled / "tiny-clip", "frozen", inputs)
    for name, rows in table.groupby("split"):
        save_states(
            Split.from_store(rows, FrameStore(work / "frames"), inputs), clip, work / f"states/{name}.safetensors"
        )
    return {"work": work, "captions": table, "inputs": inputs, "clip": clip}
