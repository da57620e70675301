"""What was recognised in a data set, and what was not: printed before anything is charged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["refused", "changed", "advice"]
MAX_NOTES = 1000


@dataclass(frozen=True, slots=True)
class Note:
    """One remark. `refused`: the file is not used; `changed`: used after a correction; `advice`: used as it is."""

    severity: Severity
    what: str
    """Stable and kebab-case: `corrupt`, `duplicate`, `animated`, …"""
    file: str
    text: str


@dataclass(slots=True)
class Report:
    """Filled while a data set is read and packed. Sizes are pixels, `bytes` those of the bundle."""

    convention: str = ""
    found: int = 0
    used: int = 0
    shown: int = 0
    """Pictures an epoch shows, repeats counted."""
    missing_captions: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    repeats: Counter[int] = field(default_factory=Counter)
    bytes: int = 0
    notes: list[Note] = field(default_factory=list)
    more_notes: int = 0

    def note(self, severity: Severity, what: str, file: str, text: str) -> None:
        """Add a remark; after a thousand they are only counted."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(Note(severity, what, file[:200], text))
        else:
            self.more_notes += 1

    def count(self, what: str) -> int:
        """How many remarks of this kind there are."""
        return sum(note.what == what for note in self.notes)

    @property
    def refused(self) -> tuple[Note, ...]:
        """The files that are not used."""
        return tuple(note for note in self.notes if note.severity == "refused")

    def document(self) -> dict[str, Any]:
        """For printing and for programs."""
        return {
            "convention": self.convention,
            "pictures_found": self.found,
            "pictures_used": self.used,
            "shown_an_epoch": self.shown,
            "repeats": {str(times): count for times, count in sorted(self.repeats.items())},
            "sizes": dict(self.sizes.most_common()),
            "missing_captions": self.missing_captions,
            "bundle_bytes": self.bytes,
            "notes": dict(Counter(f"{note.severity}: {note.what}" for note in self.notes).most_common()),
        }

    def lines(self, most: int = 20) -> list[str]:
        """The remarks for people, the gravest first."""
        order = {"refused": 0, "changed": 1, "advice": 2}
        ranked = sorted(self.notes, key=lambda note: order[note.severity])
        lines = [f"{note.severity}: {note.file}: {note.text}" for note in ranked[:most]]
        hidden = len(ranked) - most + self.more_notes
        return [*lines, f"… and {hidden} more remarks"] if hidden > 0 else lines
