"""Corpora, video files, the frame store and splits of a corpus; nothing here knows a model."""
