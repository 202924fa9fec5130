"""What sites draw and serve, all of a fleet at once: the GPU models' measured curves as arrays. Pure."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.fleet import FleetFile, GpuModel, Site
from streams.capacity import least_power_watts

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SiteCurves:
    """Piecewise linear curves of S sites, each padded to the same number of points by repeating its last one.

    `load_work` (S, A), tokens/s, prompts at their cost, against `load_watts` (S, A), what the site then draws uncapped
    at the meter: the balancer loads every pool alike. `cap_watts` (S, B), power at the meter that the site is held to,
    against `cap_work` (S, B), the tokens/s that are left: a cap reaches every GPU as the same share of its full power.
    `cut_slope`, `cut_offset` (S, D): lines slope * watts + offset of which the least is the concave envelope of the
    latter curve from the least power up.
    """

    load_work: Floats
    load_watts: Floats
    cap_watts: Floats
    cap_work: Floats
    cut_slope: Floats
    cut_offset: Floats

    @classmethod
    def of(cls, sites: Sequence[Site], fleet_file: FleetFile) -> Self:
        """Those of some sites of the fleet file.

        Raises:
            KeyError: a pool's GPU model is not in the file.
        """
        curves = [_curves(site, fleet_file.gpu_models, least_power_watts(site, fleet_file)) for site in sites]
        return cls(*(_padded([curve[number] for curve in curves]) for number in range(6)))

    def uncapped_watts(self, work_per_second: Floats) -> Floats:
        """Power at the meter that work (S, T) draws when nothing limits it, of the same shape."""
        return _interpolated(work_per_second, self.load_work, self.load_watts)

    def serveable_work_per_second(self, watts: Floats) -> Floats:
        """The most work that sites held to `watts` (S, T) at the meter get done, of the same shape."""
        return _interpolated(watts, self.cap_watts, self.cap_work)


@lru_cache(maxsize=4096)  # asked for at every plan, and always the same
def _curves(site: Site, gpu_models: tuple[GpuModel, ...], least_watts: float) -> tuple[Floats, ...]:
    by_id = {model.id: model for model in gpu_models}
    models = [(pool.gpus, by_id[pool.gpu_model]) for pool in site.pools]
    cap_watts, cap_work = _cap_curve(site, models)
    cuts = _cuts(cap_watts, cap_work, least_watts)
    return (*_load_curve(site, models), cap_watts, cap_work, *cuts)


def _load_curve(site: Site, models: Sequence[tuple[int, GpuModel]]) -> tuple[Floats, Floats]:
    load = np.unique([x for _, model in models for x, _ in model.load_power])
    drawn = [gpus * model.max_power_watts * np.interp(load, *_points(model.load_power)) for gpus, model in models]
    capacity = sum(gpus * model.tokens_per_second for gpus, model in models)
    return load * capacity, site.pue * np.sum(drawn, axis=0)


def _cap_curve(site: Site, models: Sequence[tuple[int, GpuModel]]) -> tuple[Floats, Floats]:
    share = np.unique([x / model.max_power_watts for _, model in models for x, _ in model.cap_throughput])
    left = [
        gpus * model.tokens_per_second * np.interp(share * model.max_power_watts, *_points(model.cap_throughput))
        for gpus, model in models
    ]
    full = site.pue * sum(gpus * model.max_power_watts for gpus, model in models)
    return share * full, np.sum(left, axis=0)


def _points(curve: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    x, y = zip(*curve, strict=True)
    return np.array(x), np.array(y)


def _cuts(watts: Floats, work: Floats, least_watts: float) -> tuple[Floats, Floats]:
    """Slopes and offsets of the upper hull of a curve from the least power up (Andrew's monotone chain, 1979)."""
    inside = watts > least_watts
    points = [
        (least_watts, float(np.interp(least_watts, watts, work))),
        *zip(watts[inside].tolist(), work[inside].tolist(), strict=True),
    ]
    hull: list[tuple[float, float]] = []
    for x, y in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    if len(hull) == 1:
        return np.zeros(1), np.array([hull[0][1]])
    # The last line is level: beyond its full power a site serves no more.
    slopes = np.array([*(_slope(a, b) for a, b in itertools.pairwise(hull)), 0.0])
    x, y = np.array(hull).T
    return slopes, y - slopes * x


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def _padded(rows: Sequence[Floats]) -> Floats:
    padded = np.empty((len(rows), max(len(row) for row in rows)))
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
        padded[number, len(row) :] = row[-1]
    return padded


def _interpolated(x: Floats, known_x: Floats, known_y: Floats) -> Floats:
    """np.interp along the last axis, each of the S rows by its own curve."""
    left = np.clip((x[:, :, None] >= known_x[:, None, :]).sum(axis=2) - 1, 0, known_x.shape[1] - 2)
    x0, x1 = np.take_along_axis(known_x, left, axis=1), np.take_along_axis(known_x, left + 1, axis=1)
    y0, y1 = np.take_along_axis(known_y, left, axis=1), np.take_along_axis(known_y, left + 1, axis=1)
    part = np.divide(x - x0, x1 - x0, out=np.zeros_like(x, dtype=float), where=x1 > x0)
    return np.asarray(y0 + np.clip(part, 0.0, 1.0) * (y1 - y0))
