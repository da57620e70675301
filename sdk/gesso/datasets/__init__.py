"""Pictures and captions as people keep them, turned into one checked bundle; nothing is uploaded by this room."""

from __future__ import annotations

from gesso.datasets.pack import Bundle, pack
from gesso.datasets.report import Note, Report
from gesso.datasets.source import read_source

__all__ = ["Bundle", "Note", "Report", "pack", "read_source"]
