"""The guard, rules 4 and 6: one target at a site at a time, and no two sites rise together. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from schemas.plan import ThrottleControl
from streams.policy.guard_case import Case, Span, gaps, other_names, span_of, strength


def one_a_site(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """Rule 4: one power target in force at a site: of two that overlap in time the stronger stands.

    The weaker holds before it or, once the stronger is in force, after it: it is cut, not dropped, so that a site
    neither rises before an event nor falls back and rises again after one. What serves an event holds before and
    after, under two names: nobody may be there to say it again.
    """
    names = {control.control_id for control in throttles}
    kept: list[ThrottleControl] = []
    for control in sorted(throttles, key=strength):
        stronger = [each for each in kept if each.site_id == control.site_id and _overlap(each, control)]
        if not stronger:
            kept.append(control)
            continue
        living = [span for span in gaps(span_of(control), map(span_of, stronger)) if case.now < span[1]]
        pieces = _pieces(control, living if case.served(control) else living[:1], names)
        kept += pieces
        standing = "".join(f", it holds {each.starts_at:%d %H:%M:%S} to {each.ends_at:%d %H:%M:%S}" for each in pieces)
        case.note(control.control_id, f"{stronger[0].control_id} stands above it{standing}")
    return sorted(kept, key=lambda control: control.control_id)


def _overlap(a: ThrottleControl, b: ThrottleControl) -> bool:
    return a.starts_at < b.ends_at and b.starts_at < a.ends_at


def _pieces(control: ThrottleControl, spans: list[Span], names: set[str]) -> list[ThrottleControl]:
    """The control in each of the spans, the first under its own name."""
    pieces: list[ThrottleControl] = []
    for starts_at, ends_at in spans:
        name = control.control_id
        if pieces:
            name = next(each for each in other_names(name) if each not in names)
            names.add(name)
        pieces.append(control.model_copy(update={"control_id": name, "starts_at": starts_at, "ends_at": ends_at}))
    return pieces


def restores_apart(throttles: list[ThrottleControl], case: Case) -> list[ThrottleControl]:
    """Rule 6: no two sites rise within the stagger of each other; the later one holds longer.

    A control that hands over to the next at its site lets nothing rise; one that has ended can't be moved.
    """
    stagger_seconds = case.limits.stagger_seconds
    apart: list[ThrottleControl] = []
    restores: list[tuple[datetime, str]] = []
    for control in sorted(throttles, key=lambda each: (each.ends_at, each.control_id)):
        following = [each.starts_at for each in throttles if each.site_id == control.site_id]
        following = [starts_at for starts_at in following if starts_at >= control.ends_at]
        ends_at = control.ends_at
        if control.ends_at > case.now and control.ends_at not in following:
            taken = [at for at, site_id in restores if site_id != control.site_id]
            ends_at = min([first_apart(control.ends_at, taken, stagger_seconds), *following])
        if ends_at != control.ends_at:
            wanted = f"{control.control_id} until {control.ends_at:%H:%M:%S}"
            case.note(wanted, f"restores lie {stagger_seconds:g} s apart")
        if ends_at not in following:
            restores.append((ends_at, control.site_id))
        apart.append(control.model_copy(update={"ends_at": ends_at}))
    return sorted(apart, key=lambda control: control.control_id)


def first_apart(earliest: datetime, taken: Iterable[datetime], stagger_seconds: float) -> datetime:
    """The first time from `earliest` on that lies at least the stagger away from each time `taken`."""
    stagger = timedelta(seconds=stagger_seconds)
    for other in sorted(taken):
        if abs(earliest - other) < stagger:
            earliest = other + stagger
    return earliest
