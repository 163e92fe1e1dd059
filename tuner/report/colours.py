"""The page's colours, and what they stand for."""

from __future__ import annotations

__all__ = ["COLOURS", "GROUPS"]

COLOURS = {
    "ink": ("#1b1f24", "#e6e8ea"),
    "soft": ("#5b6570", "#9aa4ae"),
    "line": ("#d8dce0", "#3a4149"),
    "page": ("#ffffff", "#14171a"),
    "card": ("#f5f6f8", "#1e2227"),
    "blue": ("#0072b2", "#56b4e9"),
    "vermilion": ("#c04a00", "#f0874a"),
    "green": ("#00785a", "#2cc295"),
    "grey": ("#767f88", "#8f99a3"),
}
"""By day and by night. The hues are Okabe and Ito's, which colour-blind people tell apart; what
they mean is told by shapes, too."""

GROUPS = {
    "defaults": ("CrystFEL's defaults", "D", "vermilion"),
    "opening": ("initial design", "o", "grey"),
    "search": ("search", "o", "blue"),
    "check": ("confirmation", "^", "green"),
}
"""What a trial was made for: its name, marker and colour."""
