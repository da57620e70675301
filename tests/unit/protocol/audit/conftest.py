"""Real and forged trajectories come from where the calibration has them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[4] / "scripts"))
