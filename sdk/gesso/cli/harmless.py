"""What a terminal may be sent of texts that strangers wrote: cards, prompts, reasons of relays and nodes.

Terminals obey control characters, those of eight bits too, and text that runs backwards says another thing than it
holds. The colours that the command line itself uses stay.
"""

from __future__ import annotations

import re

REPLACED = "\N{REPLACEMENT CHARACTER}"

# Controls but line break and tab, surrogates, separators of lines, and what turns the direction of text round. The
# joiners within emoji and the marks of right-to-left scripts are none of these.
_CONTROLS = r"\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f"
_TURNS = r"\u2028\u2029\u202a-\u202e\u2066-\u2069"
_OURS = r"\x1b(?!\[(?:[0-2]|31|32)m)"
_HARMFUL = re.compile(rf"[{_CONTROLS}{_TURNS}\ud800-\udfff]|{_OURS}")
_IN_JSON = re.compile(rf"[\x7f-\x9f{_TURNS}\ud800-\udfff]")


def harmless(text: str) -> str:
    """The text as a person's terminal gets it."""
    return _HARMFUL.sub(REPLACED, text)


def escaped(document: str) -> str:
    """The same JSON document with such characters as escapes: what a program reads is to the letter what it was."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
