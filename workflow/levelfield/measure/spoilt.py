"""Whether a run's times are spoilt, told from the machine and from whether the run's own times agree with each other; never from what it
learnt, nor from how fast it was beside others. A framework that stalls by itself is spoilt, too, and told so.

Such a run is taken again, and where it stays spoilt no claim rests on it. A loss that is not finite spoils none: that is a result.
"""

from typing import Any

TIMING = {
    "no_stall": "its time of training holds a pause that its steps do not account for",
    "device_idle": "the loop did not wait for its device",
    "times_agree": "its mean step is unlike a step that was waited for",
}
"""Checks of a run that speak of its times, and what one that is missed says."""


def spoilt(checks: dict[str, bool], measurements: dict[str, Any]) -> list[str]:
    """Each reason why a run's times are not to be trusted, in words; empty for a clean run. The arguments: as in `run.json`."""
    reasons = [text for name, text in TIMING.items() if checks.get(name) is False]
    warnings = [measurements.get(name) for name in ("noise_warning", "gpu_warning")]
    return [*filter(None, warnings), *reasons]
