"""What happens in the bundled clips, and how captions speak of it.

An event is one shape that does one thing in front of one background. A caption tells only some facts of some events.
`told` writes these facts for a machine: events in the order of time joined by " | ", facts of one event joined by ";",
a fact as factor=value. Example: "shape=star;motion=left | colour=red;shape=ring" tells of a star that moves to the left
and, later, of a red ring. The factors are those of `FACTORS`; the factor `distractor` has values such as "green heart".
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SHAPES = {
    "circle": ["circle", "disc", "ball"],
    "square": ["square", "box"],
    "triangle": ["triangle", "wedge"],
    "star": ["star"],
    "heart": ["heart"],
    "cross": ["cross", "plus sign"],
    "ring": ["ring", "hoop"],
    "moon": ["moon", "crescent"],
    "flower": ["flower", "blossom"],
}
COLOURS = {
    "red": ["red", "crimson"],
    "orange": ["orange"],
    "yellow": ["yellow", "golden"],
    "green": ["green"],
    "blue": ["blue"],
    "purple": ["purple", "violet"],
    "pink": ["pink", "rosy"],
    "brown": ["brown"],
    "white": ["white"],
    "black": ["black"],
}
SIZES = {
    "small": ["small", "little", "tiny"],
    "medium": ["medium-sized"],
    "large": ["large", "big", "huge"],
}
TRAVEL = ["moves/moving", "slides/sliding", "drifts/drifting", "glides/gliding", "is pulled/being pulled"]


def _travel(*ways: str) -> list[str]:
    return [f"{finite} {way}/{gerund} {way}" for finite, gerund in (verb.split("/") for verb in TRAVEL) for way in ways]


# Every phrase is written as finite form / participle.
MOTIONS = {
    "left": _travel("to the left", "leftwards", "from right to left"),
    "right": _travel("to the right", "rightwards", "from left to right"),
    "rise": [*_travel("up", "upwards"), "rises/rising", "climbs/climbing", "is lifted up/being lifted up"],
    "fall": [*_travel("down", "downwards"), "falls/falling", "sinks/sinking", "is dropped/being dropped"],
    "orbit": ["goes round in circles/going round in circles", "circles around/circling around", "orbits/orbiting"],
    "bounce": ["bounces/bouncing", "hops up and down/hopping up and down", "jumps/jumping"],
    "shake": ["shakes/shaking", "trembles/trembling", "is shaken/being shaken"],
    "spin": ["spins/spinning", "rotates/rotating", "turns on the spot/turning on the spot", "is spun/being spun"],
    "grow": ["grows/growing", "gets bigger/getting bigger", "expands/expanding", "is inflated/being inflated"],
    "shrink": ["shrinks/shrinking", "gets smaller/getting smaller", "is deflated/being deflated"],
    "fade": ["fades away/fading away", "vanishes/vanishing", "slowly disappears/slowly disappearing"],
    "still": ["stays still/staying still", "does not move/not moving", "rests/resting"],
}
BACKGROUNDS = {
    "sky": ["in the sky", "among the clouds", "before a cloudy sky"],
    "grass": ["on the grass", "over a green lawn", "in a meadow"],
    "sand": ["on the sand", "in the desert", "on a beach"],
    "night": ["at night", "in the dark", "under the stars of the night"],
    "snow": ["in the snow", "on a snowy day", "while it snows"],
    "brick": ["in front of a brick wall", "before the bricks"],
    "sea": ["over the sea", "on the water", "above the waves"],
    "tiles": ["on a tiled floor", "over a chessboard", "on the tiles"],
}
FACTORS = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "motion": MOTIONS, "background": BACKGROUNDS}
ROUND = ("circle", "ring")  # a rotation of these cannot be seen


@dataclass(frozen=True)
class Event:
    """One event; `layout` holds numbers in [0, 1) that place the shape (x, y) and its distractor (side, height)."""

    shape: str
    colour: str
    size: str
    motion: str
    background: str
    distractor: str
    layout: tuple[float, float, float, float]


def draw_event(rng: np.random.Generator) -> Event:
    """One random event; its distractor shares neither shape nor colour with the main shape."""

    def pick(words, *excluded):
        return str(rng.choice([word for word in words if word not in excluded]))

    shape, colour = pick(SHAPES), pick(COLOURS)
    motion = pick(MOTIONS, *(["spin"] if shape in ROUND else []))
    distractor = f"{pick(COLOURS, colour)} {pick(SHAPES, shape)}"
    return Event(shape, colour, pick(SIZES), motion, pick(BACKGROUNDS), distractor, tuple(rng.random(4).tolist()))


def write_told(facts: list[dict[str, str]]) -> str:
    """Facts of the told events, in the order of time, as one cell of a CSV file."""
    return " | ".join(";".join(f"{factor}={value}" for factor, value in told.items()) for told in facts)


def read_told(cell: str) -> list[dict[str, str]]:
    """The inverse of `write_told`. Raises ValueError where a fact is not written as factor=value."""
    told = [dict(fact.split("=") for fact in event.split(";") if fact.count("=") == 1) for event in cell.split(" | ")]
    if sum(map(len, told)) != cell.count(";") + cell.count("|") + 1:
        raise ValueError(
            f"expected facts such as 'shape=star;colour=red | motion=left', got {cell!r}; rebuild the corpus"
        )
    return told


def choose_facts(event: Event, wanted: list[str], extra: float, rng: np.random.Generator) -> dict[str, str]:
    """The facts of `wanted`, and the size and the distractor each now and then (`extra`, a probability)."""
    factors = list(wanted)
    if event.size != "medium" and rng.random() < extra:
        factors.append("size")
    if rng.random() < extra / 8:
        factors.append("distractor")
    return {factor: getattr(event, factor) for factor in (*FACTORS, "distractor") if factor in factors}


def noun_phrase(facts: dict[str, str], rng: np.random.Generator) -> str:
    """Size, colour and shape with an article, such as "a big red ball"; an untold shape is a thing."""
    words = [str(rng.choice(FACTORS[factor][facts[factor]])) for factor in ("size", "colour") if factor in facts]
    if "shape" in facts:
        words.append(str(rng.choice(SHAPES[facts["shape"]])))
    else:
        words.append(str(rng.choice(["thing", "object", "shape"] if words else ["thing", "object"])))
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def clause(facts: dict[str, str], form: str, rng: np.random.Generator) -> str:
    """The told facts of one event as a main clause (form "finite") or as a noun with a participle ("gerund")."""
    words = [noun_phrase(facts, rng)]
    if "motion" in facts:
        finite, gerund = str(rng.choice(MOTIONS[facts["motion"]])).split("/")
        words.append(finite if form == "finite" else gerund)
    elif form == "finite":
        words.append(str(rng.choice(["is seen", "shows up", "can be seen", "is shown"])))
    if "distractor" in facts:
        colour, shape = facts["distractor"].split()
        other = noun_phrase({"colour": colour, "shape": shape}, rng)
        words.append(f"{rng.choice(['next to', 'near', 'not far from', 'beside'])} {other}")
    if "background" in facts:
        place = str(rng.choice(BACKGROUNDS[facts["background"]]))
        if form == "finite" and rng.random() < 0.25:
            return f"{place} {' '.join(words)}"
        words.append(place)
    return " ".join(words)


# {a} and {b} are the events in the order of time; the letter case says main clause (A, B) or participle (a, b).
ONE = ["{A}", "{A}", "{a}", "a video of {a}", "we see {a}", "in this clip {A}", "there is {a}", "somebody films {a}",
       "the video shows {a}", "{a} was recorded", "at some point {A}"]  # fmt: skip
TWO = ["{A}, then {B}", "{A} and then {B}", "{A} and after that {B}", "first {A}, later {B}", "{A} before {B}",
       "after {A}, {B}", "before {B}, {A}", "{B} after {A}", "{a} is followed by {b}", "{b} comes after {a}",
       "the video shows {a} and then {b}", "we see {a}, followed by {b}", "a clip of {a} and afterwards {b}",
       "{A}. later on {B}", "{a} is replaced by {b}"]  # fmt: skip


def fill(template: str, facts: list[dict[str, str]], words: list) -> str:
    """A template of `ONE` or `TWO` with the told facts of its one or two events; words: a generator for each event."""
    forms = {"A": "finite", "a": "gerund", "B": "finite", "b": "gerund"}
    wanted = re.findall(r"{(\w)}", template)
    return template.format(**{key: clause(facts[key in "Bb"], forms[key], words[key in "Bb"]) for key in wanted})


class Words:
    """A generator that draws the words of one event, and where it is asked the same again, gives the same answer."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.drawn = rng, {}

    def choice(self, options: list[str]) -> str:
        """One of the options, always the same one."""
        key = tuple(options)
        if key not in self.drawn:
            self.drawn[key] = self.rng.choice(options)
        return self.drawn[key]

    def random(self) -> float:
        """A number in [0, 1), always the same one; `clause` asks for one at most."""
        if "number" not in self.drawn:
            self.drawn["number"] = self.rng.random()
        return self.drawn["number"]


class Sentence(NamedTuple):
    """A caption of one or two events before it is written: with other facts it keeps the words of those that stay."""

    template: str
    facts: list[dict[str, str]]
    words: list[Words]

    def text(self) -> str:
        """The sentence, the same at every call."""
        return fill(self.template, self.facts, self.words)


def choose_sentence(events: list[Event], rng: np.random.Generator) -> Sentence:
    """A template and facts of one or two of the events."""
    one = rng.random() < 0.2
    which = sorted(rng.choice(len(events), 1 if one else 2, replace=False).tolist())
    if one:
        wanted = [["shape", "colour", "motion", "background"]]
    else:
        wanted = [["shape", "colour"], ["shape", "colour"]]
        wanted[rng.integers(2)].append("motion")
        for factors in wanted:
            if rng.random() < 0.6:
                factors.append("background")
            elif rng.random() < 0.3 and "motion" not in factors:
                factors[rng.integers(2)] = "motion"
    facts = [
        choose_facts(events[i], factors, 0.6 if one else 0.35, rng) for i, factors in zip(which, wanted, strict=True)
    ]
    return Sentence(str(rng.choice(ONE if one else TWO)), facts, [Words(rng) for _ in facts])


def caption(events: list[Event], rng: np.random.Generator) -> tuple[str, str]:
    """One sentence that tells of one or two of the events, and what it tells (the cell `told`)."""
    sentence = choose_sentence(events, rng)
    return sentence.text(), write_told(sentence.facts)


LEADS = {"first": ["first", "at first", "to begin with", "in the beginning"],
         "next": ["then", "next", "after that", "later on", "afterwards", "a moment later"],
         "last": ["finally", "at last", "in the end", "to finish"]}  # fmt: skip


def paragraph(events: list[Event], rng: np.random.Generator) -> tuple[str, str]:
    """Three to five sentences of 30 to 60 words that tell of four or five of the events; and what they tell."""
    while True:
        which = sorted(rng.choice(len(events), int(rng.integers(4, 6)), replace=False).tolist())
        wanted = [["shape", "colour", "motion", "background"] for _ in which]
        for factors in wanted:
            for _ in range(int(rng.integers(1, 3))):
                factors.pop(int(rng.integers(len(factors))))
        facts = [choose_facts(events[i], factors, 0.15, rng) for i, factors in zip(which, wanted, strict=True)]
        sentences, left = [], list(facts)
        while left:
            lead = "first" if not sentences else "last" if len(left) == 1 else "next"
            lead = f"{rng.choice(LEADS[lead])} " if rng.random() < 0.7 else ""
            if len(left) > 1 and rng.random() < 0.3:
                template = str(rng.choice(["{A}, then {B}", "{A} and then {B}"]))
                sentences.append(fill(template, [left.pop(0), left.pop(0)], [rng, rng]))
            else:
                sentences.append(lead + clause(left.pop(0), "finite", rng))
        text = ". ".join(sentences) + "."
        tokens = len(re.findall(r"\w+|[^\w\s]", text))  # must fit the 64 positions of the tiny CLIP
        if 3 <= len(sentences) <= 5 and len(text.split()) >= 30 and tokens <= 60:
            return text, write_told(facts)


def still_caption(events: list[Event], rng: np.random.Generator) -> str:
    """A caption of one picture of the events."""
    clauses = []
    for event in events:
        factors = [factor for factor, p in (("shape", 0.95), ("colour", 0.9), ("motion", 0.7)) if rng.random() < p]
        if event is events[0] and rng.random() < 0.7:
            factors.append("background")
        clauses.append(clause(choose_facts(event, factors, 0.4, rng), "gerund", rng))
    if len(clauses) == 1:
        return str(rng.choice(ONE)).format(A=clauses[0], a=clauses[0])
    order = rng.permutation(len(clauses))
    clauses = [clauses[i] for i in order]
    if rng.random() < 0.5:
        joins = [" and ", " then ", " before ", " after ", " followed by "]
        return str(rng.choice(joins)).join(clauses)
    return ". ".join(f"{rng.choice(LEADS['next'])} {text}" if rng.random() < 0.5 else text for text in clauses) + "."
