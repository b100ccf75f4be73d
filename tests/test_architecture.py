"""docs/architecture.md against the code: every module is named, and imports go the way that the page draws."""

import re

import pytest

from glscl.code_hash import imported
from tests import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
FILES = sorted(path for path in (ROOT / "glscl").rglob("*.py") if path.name != "__init__.py")


def order() -> list[list[str]]:
    """The lines of the import order, each a list of modules and packages directly under glscl."""
    block = re.search(r"## Import order\n.*?\n\n((?:    [^\n]+\n)+)", PAGE, re.DOTALL)[1]
    return [line.split() for line in block.splitlines()]


def top(module: str) -> str:
    """`data` of glscl.data.corpora.msrvtt."""
    return module.split(".")[1]


def test_every_module_and_package_has_its_place_in_the_order():
    listed = [name for line in order() for name in line]
    inside = {
        path.stem for path in (ROOT / "glscl").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(listed) == sorted(inside - {"__init__"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "glscl")))
def test_imports_go_one_way(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    height = {module: line for line, modules in enumerate(order()) for module in modules}
    used = {top(module) for module in imported(path.read_text(encoding="utf-8"), name) if module.count(".")}
    below = {module for module in used - {top(name)} if height[module] > height[top(name)]}
    assert not below, f"{name} imports {', '.join(below)}, which docs/architecture.md places below it"


def test_the_page_names_the_modules_outside_study():
    absent = [
        path.stem
        for path in FILES
        if "study" not in path.parts
        and path.parent.name not in ("bundled", "figures", "corpora")
        and path.stem not in PAGE
    ]
    assert not absent
