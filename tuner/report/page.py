"""Pages of facts by the templates beside this module; what they show is escaped and made plain."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tuner.report.colours import COLOURS, GROUPS
from tuner.report.words import percent
from wrappers.text import printable

__all__ = ["POLICY", "render", "script"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What the page may load: nothing. A browser enforces it."""


def render(template: str, **facts: object) -> Markup:
    """Return what a template makes of facts.

    Plain text is escaped, and characters that are not seen are spelled out. Markup
    (`markupsafe.Markup`, as figures are) stays as it is.

    Parameters
    ----------
    template : str
        Name of a file in ``templates``.
    **facts
    """
    return Markup(_environment().get_template(template).render(**facts))


def script(name: str) -> Markup:
    """Return a script of ``templates``, to be put in a page as it is."""
    return Markup((resources.files(__package__) / "templates" / name).read_text("utf-8"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tuner.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.globals.update(colours=COLOURS, groups=GROUPS)
    environment.filters.update(percent=percent, prose=_prose)
    return environment


def _shown(value: object) -> object:
    """Return what is put in a page for a value."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, lines=True)
    return value


def _prose(text: str) -> Markup:
    """Return a sentence with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(_shown(text)))))
