"""Clocks, limits, galleries and the peak of memory."""

import sys
import time
from collections.abc import Callable

import pytest
import torch

from glscl.study import counting, timing
from tests.study.small_heads import small


def test_calls_take_turns_and_are_repeated():
    order = []

    def call(name: str, seconds: float) -> Callable[[], None]:
        return lambda: (order.append(name), time.sleep(seconds))

    found = timing.alternate({"a": call("a", 0.03), "b": call("b", 0.01)}, rounds=4)
    assert order == ["a", "b"] * 5
    assert min(found["a"]) >= 0.03 > 2 * min(found["b"])
    assert timing.timed(call("a", 0.02)) == pytest.approx(0.02, abs=0.01)
    assert len(timing.alternate({"slow": call("slow", 0.1)}, enough=0.04)["slow"]) == 2  # and one to warm up
    assert len(timing.alternate({"slower": call("slower", 0.1)}, enough=0.01)["slower"]) == 1
    assert (order.count("slow"), order.count("slower")) == (3, 1)


def test_sizes_rise_until_patience_ends(monkeypatch):
    monkeypatch.setattr(timing, "timed", lambda call, enough: call())
    assert timing.rising(lambda size: lambda: size / 1_000, [1, 10, 100, 1_000], patience=0.05) == {1: 0.001, 10: 0.01}
    assert timing.rising(lambda size: lambda: 1e9, [7, 8], patience=0.0) == {7: 1e9}  # the smallest always


def test_extrapolation_is_in_proportion():
    assert timing.extrapolate(0.2, 100, 1000) == pytest.approx(2.0)
    assert timing.extrapolate(0.2, 100, 100) == 0.2


def test_a_gallery_repeats_videos_in_memory_of_its_own():
    _, videos = timing.random_embeddings(small("glscl"))
    gallery = timing.repeated(videos, 40)
    assert counting.embedding_bytes(gallery) == counting.embedding_bytes(videos)
    assert gallery.frames.untyped_storage().nbytes() == 40 * 3 * 48 * 4
    torch.testing.assert_close(gallery.frames[39], videos.frames[39 % timing.ITEMS])


def test_the_released_ways_include_decoding_once():
    found = timing.whole_matrix(small("glscl"), small("x_pool"), 100, 1)
    once = found["glscl, decoding every item once"]
    assert all(found[way] > once for way in ("glscl, concepts decoded once", "glscl, exact"))
    assert found["glscl, as released"] > found["glscl, exact"]


@pytest.mark.skipif(sys.platform != "linux" or torch.cuda.is_available(), reason="reads the resident set of Linux")
def test_peak_memory_sees_what_is_freed_again():
    data = torch.zeros(5_000_000)
    assert timing.peak_memory(lambda: (data + 1).sum()) == pytest.approx(20e6, rel=0.1)
