"""A stranger's Markdown as harmless HTML: headings, paragraphs, lists, emphasis, code; no links, no pictures, no HTML.

Everything is escaped first, and only the tags that are written here ever come out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

MAX_LINES = 400
_HEADING = re.compile(r"(#{1,4})\s+(.*)\Z")
_ITEM = re.compile(r"\s{0,3}[-*+]\s+(.*)\Z")
_CODE = re.compile(r"`([^`\n]{1,500})`")
_STRONG = re.compile(r"\*\*([^*\n]{1,500})\*\*")
_SOFT = re.compile(r"\*([^*\n]{1,500})\*")


def render(text: str) -> Markup:
    """The text as HTML. Long texts are cut, never the page."""
    lines = text.split("\n")[:MAX_LINES]
    return Markup("\n").join(_blocks(lines))


def _blocks(lines: list[str]) -> Iterator[Markup]:
    paragraph: list[str] = []
    items: list[str] = []
    fenced: list[str] | None = None
    for line in [*lines, ""]:
        if line.startswith("```"):
            yield from _flush(paragraph, items)
            if fenced is not None:
                yield Markup("<pre>{}</pre>").format("\n".join(fenced))
            fenced = [] if fenced is None else None
            continue
        if fenced is not None:
            fenced.append(line)
            continue
        heading, item = _HEADING.match(line), _ITEM.match(line)
        if heading or not line.strip() or (item is None) is not (not items):
            yield from _flush(paragraph, items)
        if heading:
            yield Markup("<h{0}>{1}</h{0}>").format(min(6, len(heading[1]) + 2), _inline(heading[2]))
        elif item:
            items.append(item[1])
        elif line.strip():
            paragraph.append(line.strip())
    yield from _flush(paragraph, items)
    if fenced:
        yield Markup("<pre>{}</pre>").format("\n".join(fenced))


def _flush(paragraph: list[str], items: list[str]) -> Iterator[Markup]:
    if paragraph:
        yield Markup("<p>{}</p>").format(_inline(" ".join(paragraph)))
    if items:
        yield Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(_inline(one)) for one in items))
    paragraph.clear()
    items.clear()


def _inline(text: str) -> Markup:
    safe = str(escape(text))
    for pattern, tag in ((_CODE, "code"), (_STRONG, "strong"), (_SOFT, "em")):
        safe = pattern.sub(rf"<{tag}>\1</{tag}>", safe)
    return Markup(safe)  # noqa: S704 - escaped above; the only tags in it are ours
