"""Importing this runs the script in the project's virtual environment, so a bench can be started directly."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_VENV = Path(__file__).resolve().parents[2] / ".venv"

if (_VENV / "bin" / "python").exists() and Path(sys.prefix).resolve() != _VENV.resolve():
    os.execv(_VENV / "bin" / "python", [str(_VENV / "bin" / "python"), "-W", "ignore", *sys.argv])
