"""Are the results of a run those that the repository holds? Every number of the deterministic files, one by one.

python -m glscl.study.verify quick
"""

import argparse
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from glscl.study.project import project_root

TOLERANCE = 1.5  # points of recall, on another processor or a GPU; docs/results.md says what was measured
SHOWN = 5


class Difference(NamedTuple):
    """A value that is not the committed one; None where one side lacks it, as when fewer effects are significant."""

    where: str
    committed: object
    found: object

    @property
    def points(self) -> float | None:
        """By how many points a mean recall of a table differs; None for any other value."""
        column = self.where.rpartition(" ")[2]
        both = self.committed, self.found
        if "table.csv" not in self.where or column not in ("R@1", "R@5", "R@10"):
            return None
        numbers = all(isinstance(value, int | float) for value in both)
        return abs(both[0] - both[1]) if numbers else float("inf")


def values(text: str, name: str) -> dict[str, object]:
    """All numbers and texts of a CSV or JSON file, by where they stand. Raises ValueError where it is neither."""
    if name.endswith(".csv"):
        table = pd.read_csv(StringIO(text))
        cells = table.astype(object).where(table.notna(), None).to_dict("list")
        return {
            f"{name} row {row} {column}": cell for column, cells_ in cells.items() for row, cell in enumerate(cells_)
        }
    found = {}

    def walk(value, where: str) -> None:
        if isinstance(value, dict | list):
            for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
                walk(entry, f"{where} {key}")
        else:
            found[where] = value

    walk(json.loads(text), name)
    return found


def compare(committed: str | None, found: str | None, name: str) -> tuple[int, list[Difference]]:
    """How many values of a file are equal, and the others. None: the file is absent on that side."""
    old, new = (values(text, name) if text is not None else {} for text in (committed, found))
    differences = [Difference(w, old.get(w), new.get(w)) for w in [*old, *(new.keys() - old.keys())]]
    differences = [one for one in differences if one.committed != one.found]
    return len(old.keys() | new.keys()) - len(differences), differences


def deterministic_files(root: Path, profile: str) -> list[str]:
    """Paths of the result files of a profile that are the same everywhere: those committed and those that lie here."""
    folders = [f"results/{profile}", "results/corpora", f"results/summary/{profile}", f"results/claims/{profile}.json"]
    listed = _git(root, "ls-tree", "-r", "--name-only", "HEAD", "--", *folders).split("\n")
    here = [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file()]
    here += [root / folders[-1]] * (root / folders[-1]).is_file()
    names = {*listed, *(path.relative_to(root).as_posix() for path in here)}
    return sorted(name for name in names if name.endswith((".csv", ".json")))


def report(root: Path, profile: str) -> tuple[str, bool]:
    """What is to be said of a profile's results against the committed ones, and whether they hold."""
    equal, differences, lacking, damaged = 0, [], [], []
    for name in deterministic_files(root, profile):
        committed = _git(root, "show", f"HEAD:{name}", absent=None)
        try:
            found = (root / name).read_text(encoding="utf-8") if (root / name).is_file() else None
            same, other = compare(committed, found, name)
        except (ValueError, RecursionError) as error:
            damaged.append(
                f"{name} is damaged ({str(error).splitlines()[0]}); run make reproduce, which makes it again"
            )
            continue
        lacking += [name] * (None in (committed, found))
        equal, differences = equal + same, differences + other
    if damaged:
        return "\n".join(damaged), False
    total = equal + len(differences)
    if not total:
        return f"{profile}: there are no results to compare; run make reproduce.", False
    if not differences:
        return f"{profile}: all {total:,} numbers and texts equal the committed ones.", True
    points = [one.points for one in differences if one.points is not None]
    largest = max(points, default=0.0)
    holds = largest <= TOLERANCE and not lacking
    lines = [
        f"{profile}: {equal:,} of {total:,} numbers and texts equal the committed ones; mean recalls differ by at most "
        f"{largest:.2f} points, and {TOLERANCE:g} are allowed on another processor or a GPU.",
        *(f"  {name} is only here or only in the last commit" for name in lacking),
        *(f"  {one.where}: committed {one.committed}, here {one.found}" for one in differences[:SHOWN]),
    ]
    if len(differences) > SHOWN:
        lines.append(f"  and {len(differences) - SHOWN:,} more; git diff results/{profile} has them")
    return "\n".join(lines), holds


def _git(root: Path, *arguments: str, absent: str | None = "") -> str | None:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, encoding="utf-8")
    return done.stdout if done.returncode == 0 else absent


def main(argv: list[str] | None = None) -> int:
    """Compare the results of a profile with those of the last commit; 1 where they do not hold."""
    parser = argparse.ArgumentParser(prog="python -m glscl.study.verify")
    parser.add_argument("profile", help="quick or full")
    said, holds = report(project_root(), parser.parse_args(argv).profile)
    print(said)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
