"""What is timed among made-up videos is found, too."""

import pytest
import torch

from glscl.model import GLSCLHead
from glscl.study import search_speed
from tests.conftest import make_config


@pytest.mark.parametrize("whole", [1000, 100])
@torch.inference_mode()
def test_what_is_timed_is_what_is_found(monkeypatch, features, whole):
    """Of 300 mixtures of videos in shards of 64; with all as candidates nothing is missed."""
    head = GLSCLHead(make_config(temperature=3.0)).eval()
    texts = head.encode_texts(*(features[name][:3] for name in ("sentence", "words", "word_mask")))
    frames = 2 * torch.randn(400, 6, 32, generator=torch.Generator().manual_seed(0))
    videos = head.encode_videos(frames, torch.ones(400, 6).long())
    monkeypatch.setattr(search_speed, "ROWS", 64)
    monkeypatch.setattr(search_speed, "WHOLE", whole)
    found = search_speed.measure(head, texts, videos, 300)
    assert found["same"]
    assert found["float32_scaled_by"] == pytest.approx(1 if whole == 1000 else 300 / 128)
    assert found["recall_at_10"]["1000"] == 1
    assert found["recall_at_10"]["50"] > 0.5
    assert found["bytes_of_codes_per_video"] > 32
    assert found["bytes_of_graph_per_video"] > 32
    times = [*found["seconds"].values(), *found["cpu_seconds"].values(), *found["seconds_to_make"].values()]
    assert all(value > 0 for value in times)
    assert found["queries"] == 3


@torch.inference_mode()
def test_without_candidates_no_graph_is_made(features):
    head = GLSCLHead(make_config(temperature=3.0)).eval()
    texts = head.encode_texts(*(features[name][:2] for name in ("sentence", "words", "word_mask")))
    videos = head.encode_videos(torch.randn(40, 6, 32, generator=torch.Generator().manual_seed(0)), torch.ones(40, 6))
    found = search_speed.measure(head, texts, videos, 100, candidates=())
    assert found["same"]
    assert found["seconds"].keys() == {"codes", "float32", "reading"}
    assert (found["recall_at_10"], found["bytes_of_graph_per_video"]) == ({}, 0)
