"""What a reader calls the methods of params.yaml, and the heads that pages on costs compare."""

import pandas as pd

NAMES = {
    "clip4clip_meanP": "CLIP4Clip, mean",
    "clip4clip_seqTransf": "CLIP4Clip",
    "ncl": "NCL",
    "x_pool": "X-Pool, as published",
    "x_pool_temporal": "X-Pool",
    "x_clip": "X-CLIP",
    "x_clip_all_temporal": "X-CLIP in context",
    "drl": "DRL",
    "dicosa": "DiCoSA",
    "glccl": "GLCCL",
    "t_mass": "T-MASS, as published",
    "t_mass_temporal": "T-MASS",
    "cross_encoder": "cross-encoder, as published",
    "cross_encoder_temporal": "cross-encoder",
    "glscl": "GLSCL",
}
HEADS = {"mean_pooling": "mean pooling", "x_pool": "X-Pool", "t_mass": "T-MASS", "cross_encoder": "cross-encoder"}
COLUMNS = ["method", "head", "other head", "GLSCL minus", "T-MASS", "scores"]  # of tables, that hold methods


def name_of(method: str) -> str:
    """The name of a method; any other keeps the one that params.yaml gives it. A remark after a comma stays."""
    method, comma, remark = method.partition(",")
    return NAMES.get(method, method) + comma + remark


def head_name(head: str) -> str:
    """The name of a head, whatever method it is part of; a remark after a comma stays."""
    head, comma, remark = head.partition(",")
    return HEADS.get(head, name_of(head)) + comma + remark


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the names of methods in the columns that hold methods, and over columns of single methods."""
    cells = {column: table[column].map(name_of, na_action="ignore") for column in COLUMNS if column in table}
    return table.assign(**cells).rename(columns=NAMES)
