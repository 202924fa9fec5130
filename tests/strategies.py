"""Hypothesis strategies for valid records, drawn from the models themselves, so that a new field is covered at once.

`records(Throttle)` draws throttles, `records(Throttle, site_id=st.just("a"))` throttles of one site.
"""

import re
import string
import types
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic.fields import FieldInfo

from schemas.clock import ClockAnchor
from schemas.command import CommandAck, Release, Shift, Throttle
from schemas.envelope import Record, Value
from schemas.forecast import HorizonForecast, QuantileValues, SiteForecast
from schemas.offer import FlexibilityOffer
from schemas.plan import FleetPlan
from schemas.requests import RequestRates
from schemas.score import ForecastScore
from schemas.signals import CarbonSignal, EventSignal, PriceSignal
from schemas.site import ControllerHeartbeat, LoadState, PowerState
from schemas.telemetry import TelemetryFrame

M = TypeVar("M", bound=Value)
Fields = SearchStrategy[dict[str, Any]]

LONGEST_LIST: Final = 3  # unless the model wants more
LONGEST_TEXT: Final = 40
_ALL_BUT_NUL: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
_ALPHANUMERIC: Final = string.ascii_lowercase + string.digits
_NAME: Final = re.compile(r"\^\[a-z0-9\]\[a-z0-9-\]\{0,(\d+)\}\$")
_LIMITS: Final = ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")

times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - UTC is added


def records(model: type[M], **fixed: SearchStrategy[Any]) -> SearchStrategy[M]:
    """Valid values of a model; the fields in `fixed` are drawn from the strategies given."""
    parts = (*_parts(model), st.fixed_dictionaries(fixed)) if fixed else _parts(model)
    return st.tuples(*parts).map(lambda drawn: model(**{name: value for part in drawn for name, value in part.items()}))


@cache
def _parts(model: type[Value]) -> tuple[Fields, ...]:
    """The fields of a model, made once: Hypothesis takes longer over a new strategy than to draw from a known one."""
    fields = {name: values(field.annotation, *field.metadata) for name, field in model.model_fields.items()}
    return (st.fixed_dictionaries(fields), *_dependent(model))


def values(annotation: Any, *metadata: Any) -> SearchStrategy[Any]:
    """Values of an annotated type within its limits. Floats are finite, as JSON can't write others."""
    origin, arguments, limits = get_origin(annotation), get_args(annotation), _limits(metadata)
    if origin is Annotated:
        return values(arguments[0], *arguments[1:], *metadata)
    if origin in (Union, types.UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        least, most = limits.get("min_length", 0), limits.get("max_length", LONGEST_LIST)
        return st.lists(values(arguments[0]), min_size=least, max_size=min(most, max(least, LONGEST_LIST)))
    if annotation is str:
        return _texts(limits)
    if annotation is int:
        return st.integers(limits.get("ge"), limits.get("le"))
    if annotation is float:
        return _floats(limits)
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return records(annotation)
    return {datetime: times, bool: st.booleans(), types.NoneType: st.none()}[annotation]


def _limits(metadata: tuple[Any, ...]) -> dict[str, Any]:
    flat = [limit for one in metadata for limit in (one.metadata if isinstance(one, FieldInfo) else [one])]
    return {name: getattr(one, name) for one in flat for name in _LIMITS if getattr(one, name, None) is not None}


def _floats(limits: dict[str, Any]) -> SearchStrategy[float]:
    least, most = limits.get("gt", limits.get("ge")), limits.get("lt", limits.get("le"))
    return st.floats(
        least, most, exclude_min="gt" in limits, exclude_max="lt" in limits, allow_nan=False, allow_infinity=False
    )


def _texts(limits: dict[str, Any]) -> SearchStrategy[str]:
    least, most = limits.get("min_length", 0), min(limits.get("max_length", LONGEST_TEXT), LONGEST_TEXT)
    match limits.get("pattern"):
        case None | r"^[^\x00]*$":
            return st.text(_ALL_BUT_NUL, min_size=least, max_size=most)
        case r"^[^\x00-\x1f\x7f]+$":
            return st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=most)
        case pattern if name := _NAME.fullmatch(pattern):  # character by character, as from_regex does it, is slow
            rest = st.text(_ALPHANUMERIC + "-", max_size=int(name[1]))
            return st.tuples(st.sampled_from(_ALPHANUMERIC), rest).map("".join)
        case pattern:  # to Python's `re`, `$` also matches before a last line feed; to pydantic's it does not
            return st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True)


def _dependent(model: type[Value]) -> list[Fields]:
    """The fields of a model that can't be drawn one by one."""
    spans = {"starts_at": "ends_at", "issued_at": "lease_expires_at", "window_start": "window_end"}
    groups = [_span(a, b) for a, b in spans.items() if {a, b} <= model.model_fields.keys()]
    return groups + [fields for kind, fields in _DEPENDENT.items() if issubclass(model, kind)]


def _span(start: str, end: str) -> Fields:
    lengths = st.timedeltas(timedelta(microseconds=1), timedelta(days=400))
    return st.tuples(times, lengths).map(lambda drawn: {start: drawn[0], end: drawn[0] + drawn[1]})


def _columns() -> Fields:
    names = ("power_watts", "energy_joules", "utilization_ratio", "memory_used_ratio", "temperature_celsius")
    readings = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    gpus = st.lists(st.tuples(*[readings] * len(names)), min_size=1, max_size=6)
    return gpus.map(lambda drawn: dict(zip(names, map(list, zip(*drawn, strict=True)), strict=True)))


def _role(drawn: tuple[list[str], str]) -> dict[str, Any]:
    (donor, acceptor), role = drawn
    site = acceptor if role == "reserve" else donor
    return {"from_site_id": donor, "to_site_id": acceptor, "role": role, "site_id": site}


site_ids = values(Shift.model_fields["site_id"].annotation, *Shift.model_fields["site_id"].metadata)
ratios = st.floats(0, 1)
watts = st.floats(0, allow_nan=False, allow_infinity=False)
quantiles = values(QuantileValues).map(sorted)

_DEPENDENT: Final[dict[type[Value], Fields]] = {
    TelemetryFrame: _columns(),
    Shift: st.tuples(
        st.lists(site_ids, min_size=2, max_size=2, unique=True), st.sampled_from(["reserve", "drain"])
    ).map(_role),
    EventSignal: ratios.map(lambda ratio: {"reduction_ratio": ratio, "target_power_watts": None})
    | watts.map(lambda power: {"reduction_ratio": None, "target_power_watts": power}),
    HorizonForecast: st.fixed_dictionaries(
        {
            "tokens_per_second": quantiles,
            **dict.fromkeys(("requests_per_second", "prefill_tokens_per_second", "power_watts"), st.none() | quantiles),
        }
    ),
}

# The kinds of records of each topic.
KINDS: Final[dict[str, tuple[type[Record], ...]]] = {
    "gpu.telemetry.v1": (TelemetryFrame,),
    "inference.requests.v1": (RequestRates,),
    "grid.signals.v1": (PriceSignal, CarbonSignal, EventSignal),
    "site.state.v1": (PowerState, LoadState),
    "site.forecasts.v1": (SiteForecast,),
    "site.forecast-scores.v1": (ForecastScore,),
    "fleet.plans.v1": (FleetPlan,),
    "site.flexibility-offers.v1": (FlexibilityOffer,),
    "site.commands.v1": (Throttle, Shift, Release),
    "site.command-acks.v1": (CommandAck,),
    "site.heartbeats.v1": (ControllerHeartbeat,),
    "control.clock.v1": (ClockAnchor,),
}


def topic_records(topic: str) -> SearchStrategy[Record]:
    """Records of every kind that a topic carries."""
    return st.one_of([records(kind) for kind in KINDS[topic]])
