"""Corpora of one's own: which pages warn of the bundled CLIP."""

import pytest

from glscl.study.own import only_drawings


@pytest.mark.parametrize(
    ("dataset", "clip", "warns"),
    [
        ("own", "data/tiny-clip", True),
        ("msrvtt", "data/tiny-clip/", True),
        ("scenes", "data/tiny-clip", False),
        ("own", "openai/clip-vit-base-patch32", False),
    ],
)
def test_a_box_warns_where_the_bundled_clip_reads_more_than_drawings(dataset, clip, warns):
    box = only_drawings(dataset, clip)
    assert ("has only seen drawings" in box) == warns
    assert (f"datasets.{dataset}.inputs.clip" in box) == warns
