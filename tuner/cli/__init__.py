"""The ``sfx-tuner`` command."""

from __future__ import annotations

from tuner.cli.main import main

__all__ = ["main"]
