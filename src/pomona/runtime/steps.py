"""Time over width is a staircase: at which widths to measure, and how to read between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_LANES = {"AVX512": 16, "AVX2": 8, "DEFAULT": 4}  # float32 in one vector register
_KNOTS = 6


def step() -> int:
    """How wide a stair is on this machine, in float32 channels: what the kernels' vectors hold."""
    return _LANES.get(torch.backends.cpu.get_cpu_capability(), 8)


@dataclass(frozen=True)
class Stairs:
    """The widths up to `full` at which an op is measured.

    Kernels walk in steps of some `step` channels. Widths that fill their last step are one curve, all others a second one,
    on which a width costs what its last, partly filled step costs: between two knots, whole steps are interpolated. The
    full width and those up to one step are measured as they are.
    """

    full: int
    step: int

    @property
    def knots(self) -> list[int]:
        """Numbers of steps that are measured, ascending: all of them in narrow ops, some evenly spaced in wide ones."""
        most = -(-self.full // self.step)
        several = min(_KNOTS, most)
        return sorted({round(1 + (most - 1) * k / max(1, several - 1)) for k in range(several)})

    def around(self, width: int) -> list[tuple[int, float]]:
        """The measured widths that stand for this one, with their weights; these add up to 1.

        >>> Stairs(64, 16).around(64), Stairs(64, 16).around(33), Stairs(64, 16).around(32)
        ([(64, 1.0)], [(47, 1.0)], [(32, 1.0)])
        >>> Stairs(336, 16).around(112)  # measured at 1, 5, 9, ... steps
        [(80, 0.5), (144, 0.5)]
        """
        if width >= self.full or width <= self.step or self.full <= self.step:
            return [(width, 1.0)]
        steps, filled = -(-width // self.step), width % self.step == 0
        low = max(k for k in self.knots if k <= steps)
        high = min(k for k in self.knots if k >= steps)
        share = 0.0 if low == high else (steps - low) / (high - low)
        ends = [(low, 1 - share), (high, share)] if share else [(low, 1.0)]
        return [(self._width(k, filled), weight) for k, weight in ends]

    def _width(self, steps: int, filled: bool) -> int:
        """The end of a step, or one short of it."""
        return min(self.full, steps * self.step - (not filled))
