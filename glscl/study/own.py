"""Corpora of one's own videos: what `own` in params.yaml runs, apart from the study, and the report of one.

python -m glscl.study.own shop
"""

import html
import sys
from pathlib import Path

import pandas as pd

from glscl.evaluation.results import reported, shown
from glscl.report.export import build_report
from glscl.report.tables import results_html
from glscl.study.parameters import OWN, load_params
from glscl.study.project import commit, enter_project, hardware

BUNDLED_CLIP, DRAWN = Path("data/tiny-clip"), ("scenes", "stories")
ONLY_DRAWINGS = (
    "This CLIP has only seen drawings: shapes, colours and motions. Of real footage it knows nothing, and finds little "
    "there. Take one trained on photographs: set datasets.{dataset}.inputs.clip to openai/clip-vit-base-patch32, "
    "or to a folder with it."
)


def only_drawings(dataset: str, clip: str) -> str:
    """A box for a page about a corpus of more than drawings, where the bundled CLIP reads it; else nothing."""
    if Path(clip) != BUNDLED_CLIP or dataset in DRAWN:
        return ""
    said = html.escape(ONLY_DRAWINGS.format(dataset=dataset))
    return (
        f'<p role="note" style="border: 2px solid; border-radius: 4px; padding: 0.6em 1em"><strong>{said}</strong></p>'
    )


def write_own_report(dataset: str, params: dict) -> Path:
    """Write reports/own/<dataset>/, the results and a page per notebook, and return its index.

    params: params.yaml. Raises FileNotFoundError where a stage of the corpus has not run.
    """
    shared, own = Path("work/notebooks/corpora"), Path("work/notebooks") / OWN
    notebooks = [shared / f"{name}-{dataset}.ipynb" for name in ("00_check", "01_prepare", "02_encode")]
    notebooks += [own / f"03_train-{dataset}-{method}.ipynb" for method in params[OWN]["methods"]]
    notebooks += [own / f"{name}-{dataset}.ipynb" for name in ("04_evaluate", "07_search")]
    table = reported(pd.read_csv(Path("results") / OWN / dataset / "table.csv"), "t2v")
    cells = shown(table, ["R@1", "R@5", "R@10", "MdR"]).reset_index(drop=True)
    box = only_drawings(dataset, params["datasets"][dataset]["inputs"]["clip"])
    sections = {"Results": box + results_html(cells, "Text to video, means over seeds with 95 % intervals.")}
    lead = f"{dataset}, a corpus of your own: no claim of the study rests on it."
    facts = {"dataset": dataset, "commit": commit(), "report built on": hardware()}
    return build_report(notebooks, Path("reports") / OWN / dataset, f"Retrieval on {dataset}", lead, sections, facts)


def main(argv: list[str]) -> int:
    """Write the report of the corpus that is named; the exit status."""
    enter_project(scratch=False)
    try:
        print(f"the report: {write_own_report(argv[0], load_params()).resolve()}")
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
