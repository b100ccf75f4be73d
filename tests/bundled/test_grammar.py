"""Captions and paragraphs: what they say is what is told; facts as text."""

import re

import pytest

from glscl.bundled import corpora
from glscl.bundled.grammar import BACKGROUNDS, FACTORS, read_told, write_told


def test_a_caption_says_what_told_says():
    for number in range(200):
        for text, cell in corpora.video_captions(corpora.SCENES, f"scenes{number:04d}", 2):
            told = read_told(cell)
            for factor in ("shape", "motion", "background"):
                for value in {facts[factor] for facts in told if factor in facts}:
                    phrases = [form for phrase in FACTORS[factor][value] for form in phrase.split("/")]
                    assert any(phrase in text for phrase in phrases), (text, factor, value)
            spoken = {value for value, words in BACKGROUNDS.items() if any(word in text for word in words)}
            assert spoken == {facts["background"] for facts in told if "background" in facts}, text


def test_paragraphs_have_three_to_five_sentences_and_fit_the_text_tower():
    for number in range(100):
        [(text, _)] = corpora.video_captions(corpora.STORIES, f"stories{number:04d}", 1)
        assert 3 <= text.count(".") <= 5
        assert len(text.split()) >= 30
        assert len(re.findall(r"\w+|[^\w\s]", text)) <= 60


def test_told_survives_writing_and_reading():
    told = [{"shape": "star", "motion": "left"}, {"distractor": "green heart"}]
    assert write_told(told) == "shape=star;motion=left | distractor=green heart"
    assert read_told(write_told(told)) == told


@pytest.mark.parametrize("cell", ["", "star", "shape=star | red", "shape=star;red", "shape==star"])
def test_a_cell_without_facts_is_refused(cell):
    with pytest.raises(ValueError, match="expected facts such as"):
        read_told(cell)
