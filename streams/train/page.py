"""What people read of a training and of the models there are."""

from collections.abc import Sequence

from rich.table import Table

from forecasting.card import ModelCard
from streams.forecast.models import Listed


def verdict_of(card: ModelCard) -> Table:
    """Losses side by side, and the verdict beneath."""
    losses = card.losses
    table = Table(title=f"{card.name}: {card.reason}", title_justify="left", box=None, pad_edge=False)
    table.add_column("forecaster")
    table.add_column("loss", justify="right")
    table.add_column("against it", justify="right")
    rows = [(card.name, losses.candidate), ("statistical baseline", losses.baseline)]
    if losses.serving_name:
        rows.append((f"{losses.serving_name} (serves)", losses.serving))
    for name, loss in rows:
        table.add_row(name, _number(loss), "" if name == card.name else _gain(losses.candidate, loss))
    table.caption = (
        f"{card.series} series of {len(card.sites)} sites, {card.data_starts_at:%Y-%m-%d %H:%M} to"
        f" {card.data_ends_at:%Y-%m-%d %H:%M} UTC, held out from {card.held_out_from:%Y-%m-%d %H:%M}"
    )
    table.caption_justify = "left"
    return table


def list_of(found: Sequence[Listed], current: str | None) -> Table:
    """One line a model; `*` marks the one that serves."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("", "left"),
        ("name", "left"),
        ("trained, UTC", "left"),
        ("data", "left"),
        ("loss", "right"),
        ("baseline", "right"),
        ("verdict", "left"),
    ):
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    for each in found:
        card = each.card
        mark = "*" if each.name == current else ""
        if card is None:
            table.add_row(mark, each.name, "", "", "", "", f"refused: {each.refused}")
            continue
        table.add_row(
            mark,
            each.name,
            f"{card.trained_at:%Y-%m-%d %H:%M}",
            f"{card.series} series, {(card.held_out_from - card.data_starts_at).total_seconds() / 86_400:.1f} days",
            _number(card.losses.candidate),
            _number(card.losses.baseline),
            f"refused: {each.refused}" if each.refused else card.reason,
        )
    return table


def _number(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4g}"


def _gain(candidate: float | None, other: float | None) -> str:
    if candidate is None or not other:
        return "-"
    return f"{candidate / other - 1:+.1%}"
