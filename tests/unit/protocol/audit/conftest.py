"""Property tests judge the rules, not the machine: a loaded computer must not turn them red."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("gesso-audit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gesso-audit")
