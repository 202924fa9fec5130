"""Measured curves: a list of rising [x, y] points, linear in between, level beyond the ends."""

from bisect import bisect_left
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]


def interpolate(curve: Points, x: float) -> float:
    """The curve's y at `x`; the first or last y where `x` lies beyond the curve. Never falls as `x` rises."""
    if x <= curve[0][0]:
        return curve[0][1]
    if x >= curve[-1][0]:
        return curve[-1][1]
    right = 1
    while curve[right][0] <= x:  # a handful of points: quicker than a bisection with its key
        right += 1
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return min(y1, y0 + (y1 - y0) * ((x - x0) / (x1 - x0)))  # min: rounding must not pass the next point


def invert(curve: Points, y: float) -> float:
    """The lowest x at which the curve reaches `y`; the first or last x where the curve never is at `y`."""
    if y <= curve[0][1]:
        return curve[0][0]
    if y > curve[-1][1]:
        return curve[-1][0]
    right = bisect_left(curve, y, key=lambda point: point[1])
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return min(x1, x0 + (x1 - x0) * ((y - y0) / (y1 - y0)))
