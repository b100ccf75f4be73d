"""The graph of the pipeline, one box per kind of stage: `dvc dag` draws each profile, corpus and method on its own.

python -m glscl.study.dag
"""

import re
from itertools import product
from pathlib import Path

from glscl.files import write_text
from glscl.report.figures.svg import Drawing, text_width
from glscl.study.parameters import load_stages
from glscl.study.project import project_root

FILE = Path("docs/pipeline.svg")
VARIANTS = re.compile(r"^(full_|videos_|own_)+")  # prefixes of stages that do the same for other items
LISTS = {"${study.features}", "${study.videos}", "${own.corpora}"}  # of corpora, which share none
WITHOUT = {"code"}  # every stage reads its hashes
BOX, GAP, ROW, EDGE = 92, 26, 44, 16  # pixels: width of a box, between columns, height of a row, margin


def reads(stages: dict) -> dict[str, set[str]]:
    """What each kind of stage reads from others, {kind: kinds}, less what it reads through another one as well.

    stages: of dvc.yaml. A stage reads from another where a dependency lies in one of its outputs, or holds it, and both
    run for the same lists of corpora.
    """
    corpora: dict[str, set] = {}
    for name, stage in stages.items():
        corpora.setdefault(VARIANTS.sub("", name), set()).add(stage.get("matrix", {}).get("dataset"))
    kinds = {name: stage for name, stage in stages.items() if not VARIANTS.match(name) and name not in WITHOUT}
    outs = {name: _paths(stage, "outs", "metrics") for name, stage in kinds.items()}
    found = {
        name: {
            other
            for other in kinds
            if other != name
            and not (corpora[name] | corpora[other] <= LISTS and corpora[name].isdisjoint(corpora[other]))
            and any(_meet(*pair) for pair in product(_paths(stage, "deps"), outs[other]))
        }
        for name, stage in kinds.items()
    }
    before = {name: _before(found, name) for name in found}
    return {name: {one for one in of if not any(one in before[other] for other in of)} for name, of in found.items()}


def _paths(stage: dict, *kinds: str) -> list[list[str]]:
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
    return [re.sub(r"\$\{[\w.]+\}", "*", path).split("/") for path in paths]


def _meet(one: list[str], other: list[str]) -> bool:
    return all(a == b for a, b in zip(one, other, strict=False))


def _before(found: dict[str, set[str]], name: str) -> set[str]:
    return found[name].union(*(_before(found, other) for other in found[name]))


def drawing(stages: dict) -> Drawing:
    """The graph from left to right: a stage stands right of all that it reads."""
    graph = reads(stages)
    column: dict[str, int] = {}
    while len(column) < len(graph):
        ready = {name: of for name, of in graph.items() if name not in column and of <= column.keys()}
        column |= {name: max((column[other] for other in of), default=-1) + 1 for name, of in ready.items()}
    columns = [[name for name in graph if column[name] == number] for number in range(max(column.values()) + 1)]
    most = max(map(len, columns))
    width, height = 2 * EDGE + len(columns) * (BOX + GAP) - GAP, 2 * EDGE + most * ROW
    made = Drawing(width, height, "The stages of the pipeline", "; ".join(_sentence(name, graph) for name in graph))
    place = {
        name: (EDGE + number * (BOX + GAP), EDGE + (most - len(names)) * ROW / 2 + row * ROW + ROW / 2)
        for number, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    for name, of in graph.items():
        for other in sorted(of):
            (x, y), (left, middle) = place[name], place[other]
            made.curve([(left + BOX, middle), (x - GAP / 2, middle), (x - GAP / 2, y), (x, y)], "curve")
            made.dot(x - 2, y, "dot", radius=2.5)
    for name, (x, y) in place.items():
        top, bottom = y - ROW / 3, y + ROW / 3
        made.curve([(x, top), (x + BOX, top), (x + BOX, bottom), (x, bottom), (x, top)], "hero-bar")
        made.text(x + BOX / 2, y + 4, name, "small", "middle")
        assert text_width(name, 12) < BOX, f"{name} is wider than its box"
    return made


def _sentence(name: str, graph: dict[str, set[str]]) -> str:
    return f"{name} reads {', '.join(sorted(graph[name])) or 'inputs alone'}"


def main() -> None:
    """Write docs/pipeline.svg."""
    root = project_root()
    write_text(root / FILE, drawing(load_stages(root)).svg(alone=True))
    print(f"wrote {FILE}")


if __name__ == "__main__":
    main()
