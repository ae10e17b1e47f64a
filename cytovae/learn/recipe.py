"""The choices of a training that have names; the verbs read their members here."""

from __future__ import annotations

import enum


class Preset(enum.StrEnum):
    """Which recipe."""

    PAPER = "paper"
    BEST = "best"


class Rates(enum.StrEnum):
    """Learning rates: the paper's, or those of its public implementation, the other way round."""

    PAPER = "paper"
    IMPLEMENTATION = "implementation"


class Precision(enum.StrEnum):
    """Of the arithmetic: single, or bfloat16 where it is enough, for GPUs."""

    SINGLE = "32-true"
    MIXED = "bf16-mixed"
