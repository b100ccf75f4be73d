"""Frames: shapes and motions that look different."""

import dataclasses

import numpy as np

from glscl.bundled import drawing
from glscl.bundled.grammar import MOTIONS, SHAPES, draw_event


def test_every_pair_of_shapes_and_of_visible_motions_looks_different():
    rng = np.random.default_rng(0)
    event = dataclasses.replace(draw_event(rng), shape="star", colour="red", background="sand", size="large")
    backdrop = drawing.ground("sand", "scenes", rng)
    shapes = {s: drawing.frame([dataclasses.replace(event, shape=s)], 0.4, "scenes", backdrop) for s in SHAPES}
    motions = {m: drawing.frame([dataclasses.replace(event, motion=m)], 0.4, "scenes", backdrop) for m in MOTIONS}
    for pictures in (shapes, motions):
        assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)
