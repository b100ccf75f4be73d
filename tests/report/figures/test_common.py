"""Figures whose points show their clip."""

import os
from unittest import mock

import pytest

from glscl.report.figures import common
from tests.report.conftest import HOSTILE, scatter, strip


@pytest.mark.parametrize(
    ("media", "captions", "message"),
    [
        ({"black": strip(0)}, ["a", "b"], "'white'"),
        ({"black": strip(0), "white": strip(1)}, ["a"], "captions 1"),
        ({"black": "https://example.org/a.jpg", "white": strip(1)}, ["a", "b"], "data URI"),
    ],
)
def test_media_must_be_complete(media, captions, message):
    with pytest.raises(ValueError, match=message):
        common.with_media(scatter(), media, captions)


def test_jupyter_gets_panel_and_library_in_one_piece():
    shown = common.with_media(scatter(), {"black": strip(0), "white": strip(255)}, [HOSTILE, "b"])
    with mock.patch.dict(os.environ):
        os.environ.pop("PLOTLY_RENDERER", None)
        bundle = shown._repr_mimebundle_()
    assert list(bundle) == ["text/html"]
    assert len(bundle["text/html"]) > 1_000_000
    assert HOSTILE not in bundle["text/html"]
