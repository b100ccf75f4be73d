"""Known counts of the benchmarks: each split has numbers, what was counted before what others state."""

import pytest

from glscl.data.corpora import counts
from glscl.data.corpora.counts import COUNTED, counts_of


@pytest.mark.parametrize(("dataset", "partition"), COUNTED)
def test_every_split_of_a_benchmark_has_videos_and_captions(dataset, partition):
    found = counts_of(dataset, partition)
    assert list(found) == ["train", "val", "test"]
    assert all(0 < videos <= captions for videos, captions in found.values())


def test_what_was_counted_comes_before_what_others_state(monkeypatch):
    known = {"train": [(5, 50), (6, 60)], "val": [(2, None)], "test": [(1, 9)]}
    stated = {"train": [(7, 70)], "val": [(3, 33)]}
    monkeypatch.setattr(counts, "COUNTED", {("made", "up"): known})
    monkeypatch.setattr(counts, "PUBLISHED", {("made", "up"): stated})
    assert counts_of("made", "up") == {"train": (5, 50), "val": (2, 33), "test": (1, 9)}


def test_captions_stand_for_videos_that_nobody_counted():
    assert counts_of("lsmdc", None)["train"] == (101_079, 101_079)


def test_a_corpus_that_is_no_benchmark_is_refused():
    with pytest.raises(ValueError, match=r"known of the benchmarks activitynet, .* msrvtt 9k, .* got own; name one"):
        counts_of("own", None)
    with pytest.raises(ValueError, match="got msrvtt mini"):
        counts_of("msrvtt", "mini")
