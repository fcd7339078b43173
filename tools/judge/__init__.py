"""Judges any proxy by the features: which rules it keeps, and which it breaks."""
