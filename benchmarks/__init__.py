"""Measurements of the lab and its peers, each a folder: `python -m benchmarks.NAME` in the repository's root."""
