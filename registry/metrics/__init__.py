"""The metrics that the lab reports: their names, and of which of them more is better."""

from __future__ import annotations

METRICS = (
    "FID", "FID_infinity", "KID", "precision", "recall", "density", "coverage", "IS", "class_FID", "class_shares",
    "class_agreement", "memorisation", "held_out_loss",
)  # fmt: skip
USUAL = frozenset(METRICS) - {"FID_infinity"}  # what is measured where nobody says what
HIGHER = {"IS", "precision", "recall", "density", "coverage", "class_agreement"}  # is better; of all others less is
