"""Tables and text of Markdown files; text cannot become markup."""

import re

import pandas as pd

from glscl.report.names import named


def plain(text) -> str:
    """Any value as text in one line that Markdown shows as it is; nothing for a missing value."""
    if text is None or (not isinstance(text, str) and pd.isna(text)):
        return ""
    text = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*]|\[(?=[^\]]*\]\())", r"\\\1", text)


def table_markdown(table: pd.DataFrame, bold: pd.DataFrame | None = None) -> str:
    """A table without its index. bold: of its shape, true for cells whose number, up to a space, is set bold."""
    table = named(table)
    heavy = [[False] * len(table.columns)] * len(table) if bold is None else bold.to_numpy().tolist()
    lines = [list(map(plain, table.columns)), ["---"] * len(table.columns)]
    for row, marks in zip(table.astype(object).to_numpy().tolist(), heavy, strict=True):
        cells = zip(map(plain, row), marks, strict=True)
        lines.append([re.sub(r"^\S+", r"**\g<0>**", cell) if mark else cell for cell, mark in cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def between(text: str, marks: tuple[str, str], new: str, file: str) -> str:
    """The text with everything between two marks replaced. Raises ValueError that names `file` where one is absent."""
    if any(text.count(mark) != 1 for mark in marks):
        raise ValueError(f"{file} must hold the marks {marks[0]} and {marks[1]} once each; put them back.")
    before, rest = text.split(marks[0])
    return f"{before}{marks[0]}\n{new}\n{marks[1]}{rest.split(marks[1])[1]}"
