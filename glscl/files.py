"""Files that appear in one step: a kill leaves the old file or the new one, never half of one."""

import json
import math
import os
from pathlib import Path

import pandas as pd


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` in one step, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write `table` without its index to `path`, CSV or Parquet by its ending, in one step, and make its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write = {".csv": table.to_csv, ".parquet": table.to_parquet}[path.suffix]
    write(partial, index=False)
    os.replace(partial, path)


def _plain(value, digits: int, where: str):
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy and torch, arrays and scalars
    if isinstance(value, dict):
        return {str(key): _plain(entry, digits, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, digits, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, and results must be finite; look for what made it so")
        return float(f"{value:.{digits}g}")
    return value


def write_json(path: str | Path, mapping: dict, digits: int = 6) -> None:
    """Write `mapping` with sorted keys and floats rounded to `digits` significant digits.

    Takes numpy and torch values. Raises ValueError, and writes nothing, where a number is not finite.
    """
    path = Path(path)
    text = json.dumps(_plain(mapping, digits, path.name), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(path, text)
