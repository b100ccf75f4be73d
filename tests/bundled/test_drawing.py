"""Frames: shapes, sizes and motions that look different, in one picture."""

import dataclasses

import numpy as np

from glscl.bundled import drawing
from glscl.bundled.grammar import MOTIONS, SHAPES, SIZES, draw_event


def test_every_pair_of_shapes_and_of_visible_motions_looks_different():
    rng = np.random.default_rng(0)
    event = dataclasses.replace(draw_event(rng), shape="star", colour="red", background="sand", size="large")
    backdrop = drawing.ground("sand", "scenes", rng)
    shapes = {s: drawing.frame([dataclasses.replace(event, shape=s)], 0.4, "scenes", backdrop) for s in SHAPES}
    motions = {m: drawing.frame([dataclasses.replace(event, motion=m)], 0.4, "scenes", backdrop) for m in MOTIONS}
    for pictures in (shapes, motions):
        assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)


def test_every_motion_but_standing_still_has_its_marks_at_all_times():
    rng = np.random.default_rng(1)
    for motion in MOTIONS:
        for time in np.linspace(0, 1, 9):
            event = dataclasses.replace(draw_event(rng), motion=motion)
            lines = drawing.marks(event, time)
            assert bool(lines) == (motion != "still")
            assert all(line.ndim == 2 and line.shape[1] == 2 for line in lines)


def test_sizes_do_not_overlap_while_a_shape_grows_or_shrinks():
    rng = np.random.default_rng(2)
    reached = {}
    for size in SIZES:
        events = [dataclasses.replace(draw_event(rng), motion=motion, size=size) for motion in MOTIONS]
        reached[size] = [drawing.pose(event, time)[2] for event in events for time in (0, 0.5, 1)]
    assert max(reached["small"]) < min(reached["medium"]) + 1e-9
    assert max(reached["medium"]) < min(reached["large"]) + 1e-9


def test_shapes_move_far_enough_to_be_seen_to_move():
    rng = np.random.default_rng(3)
    for motion in ("left", "right", "rise", "fall", "orbit", "bounce"):
        event = dataclasses.replace(draw_event(rng), motion=motion)
        places = np.array([drawing.pose(event, time)[:2] for time in np.linspace(0, 1, 9)])
        assert np.ptp(places, axis=0).max() >= 2 / drawing.STEPS, motion
