"""What a frozen image encoder sees of an event: linear probes, and the gate that the bundled CLIP must pass."""

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .corpora import SEED
from .drawing import LOOKS, compressed, frame, ground
from .grammar import FACTORS, draw_event

FITTED, TESTED = 4000, 1000  # events
FRAMES = 4  # of an event, at the centres of equal parts
GATE = {"shape": 85.0, "colour": 95.0, "size": 85.0, "motion": 70.0, "background": 95.0}  # percent


def draw(events: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames (events, 4, 64, 64, 3) uint8 of random events that no corpus and no still shows, and their factors."""
    rng = np.random.default_rng([SEED, len(LOOKS) + 2])
    frames, shown = [], []
    for _ in range(events):
        event, look = draw_event(rng), LOOKS[rng.integers(2)]
        backdrop = ground(event.background, look, rng)
        times = (np.arange(FRAMES) + 0.5) / FRAMES
        frames.append([np.asarray(compressed(frame([event], time, look, backdrop), rng)) for time in times])
        shown.append(event)
    return np.array(frames), {factor: np.array([getattr(event, factor) for event in shown]) for factor in FACTORS}


def accuracies(encode: Callable[[np.ndarray], np.ndarray], fitted: int = FITTED, tested: int = TESTED) -> dict:
    """Accuracy in percent, per factor, of logistic regression on image vectors, on events that it was not fitted on.

    encode: images (items, 64, 64, 3) uint8 to vectors (items, width). The motion is read from the vectors of all four
    frames of an event, the other factors from one of them.
    """
    frames, shown = draw(fitted + tested)
    vectors = encode(frames.reshape(-1, *frames.shape[2:])).reshape(len(frames), FRAMES, -1)
    still = vectors[np.arange(len(frames)), np.arange(len(frames)) % FRAMES]
    found = {}
    for factor, values in shown.items():
        inputs = vectors.reshape(len(frames), -1) if factor == "motion" else still
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
        found[factor] = 100 * probe.fit(inputs[:fitted], values[:fitted]).score(inputs[fitted:], values[fitted:])
    return found


def check(found: dict[str, float]) -> None:
    """Raises ValueError where a probe is below `GATE`: heads cannot differ on facts that the encoder does not see."""
    if low := {factor: f"{found[factor]:.0f}" for factor, least in GATE.items() if found[factor] < least}:
        raise ValueError(f"expected probes of {GATE} percent at least, got {low}; train the tiny CLIP longer")
