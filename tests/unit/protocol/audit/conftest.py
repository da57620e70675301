"""Property tests judge the rules, not the machine: a loaded computer must not turn them red."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile("gesso-audit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gesso-audit")
# real and forged trajectories come from where the calibration has them
sys.path.append(str(Path(__file__).parents[4] / "scripts"))
