"""Small models and batches that several tests share."""

import copy
from functools import cache

import pandas as pd
import pytest
import torch
from transformers import CLIPConfig

from benchmarks import small_study
from glscl.base import load_backbone
from glscl.config import GLSCLConfig
from glscl.data.corpora import read_corpus
from glscl.data.dataset import PreparedCorpus, Split
from glscl.data.frame_store import FrameStore, Sampling, write_store
from glscl.encoding import save_features
from glscl.files import write_table
from glscl.model import GLSCL
from tests import ROOT

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


@cache
def _model(**settings) -> GLSCL:
    torch.manual_seed(0)
    return GLSCL(make_config(**settings)).eval()


@pytest.fixture
def make_model():
    """make_model(**settings) -> a small GLSCL in evaluation mode, the same at every call."""

    def make(**settings) -> GLSCL:
        model = copy.deepcopy(_model(**settings))
        torch.manual_seed(0)
        return model

    return make


@pytest.fixture
def features():
    """CLIP-like features, norms of order 10: sentence, words, word_mask of 5 texts; frames, frame_mask of 7 videos."""
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
    folder = ROOT / "data"
    if not (folder / "tiny-clip").exists():
        pytest.skip("the bundled inputs are not here; run `dvc pull data.dvc`")
    return folder


@pytest.fixture(scope="session")
def corpus(bundled, tmp_path_factory):
    """A prepared corpus of 48 training, 12 validation and 12 test clips of `scenes`.

    work: its folder, with captions, frames and features. captions: with the column `path`. processor, clip: of the
    bundled CLIP. prepared: the corpus for a frozen CLIP.
    """
    work = tmp_path_factory.mktemp("corpus")
    table = read_corpus("scenes", bundled / "scenes")
    kept = {"train": 48, "val": 12, "test": 12}
    table = pd.concat(
        [rows[rows["video"].isin(rows["video"].unique()[: kept[s]])] for s, rows in table.groupby("split") if s in kept]
    )
    write_table(work / "captions.parquet", table.drop(columns="path"))
    write_store(work / "frames", table.drop_duplicates("video"), Sampling(4), 64, workers=1, progress=False)
    prepared = PreparedCorpus.open(work, str(bundled / "tiny-clip"), "frozen", 24)
    clip = load_backbone(prepared.clip, "frozen", prepared.processor)
    for name, rows in prepared.captions.groupby("split"):
        split = Split.from_store(rows, FrameStore(work / "frames"), prepared.processor)
        save_features(split, clip, work / f"features/{name}.safetensors")
    return {"work": work, "captions": table, "processor": prepared.processor, "clip": clip, "prepared": prepared}


@pytest.fixture(scope="module")
def project(bundled, tmp_path_factory):
    """The project with few features, a corpus of 44 clips, and another of 28."""
    root = tmp_path_factory.mktemp("project")
    small_study.write(root, bundled)
    return root
