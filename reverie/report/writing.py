"""From what a page is made of to HTML and Markdown, by the templates beside this file."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reverie.report.views import Page
from reverie.report.words import ARROWS

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment(escape: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(  # Markdown is escaped by `plain`
        loader=FileSystemLoader(TEMPLATES), autoescape=escape, undefined=StrictUndefined, keep_trailing_newline=True
    )
    made.filters |= {"breakable": _breakable, "arrows": _arrows}
    return made


def _breakable(name: str) -> Markup:
    """A dotted name that may go on in the next line after a dot."""
    from markupsafe import Markup, escape

    return Markup(str(escape(name)).replace(".", ".<wbr>"))  # escaped


def _arrows(cell: str) -> Markup:
    """A cell whose last character may be an arrow, which then says what it means."""
    from markupsafe import Markup, escape

    text, arrow = escape(cell[:-1]), cell[-1:]
    if arrow not in ARROWS.values():
        return escape(cell)
    better = next(word for word, known in ARROWS.items() if known == arrow)
    return Markup('{}<abbr title="{} is better">{}</abbr>').format(text, better, arrow)


def page(made: Page) -> str:
    """One HTML page that needs nothing but itself; all that a run says is escaped."""
    from markupsafe import Markup

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    text = _environment(escape=True).get_template("page.html").render(
        page=made, style=Markup(style), script=Markup(script)  # our own files
    )  # fmt: skip
    return _encodable(text)


def card(values: dict[str, Any]) -> str:
    """A model card; text that a run says has to have gone through `plain`."""
    return _encodable(_environment(escape=False).get_template("card.md").render(values))


def plain(text: str) -> str:
    r"""Text that Markdown and HTML leave as it is, on one line.

    >>> print(plain("a_b | <b>"))
    a\_b \| &lt;b&gt;
    """
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _encodable(text: str) -> str:
    """Names of files may hold bytes that are no text: they become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
