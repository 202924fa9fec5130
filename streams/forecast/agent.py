"""The forecast stage: load states in, a forecast out when a site's step closes, its history remembered."""

from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from forecasting.history import SiteHistory
from forecasting.predict import history_for, predict
from schemas.catalog import SITE_FORECASTS, SITE_STATE
from schemas.forecast import SiteForecast
from schemas.site import LoadState
from streams.engine import Batch
from streams.intake import Arrived
from streams.memory import Memory, opened
from streams.positions import Held
from streams.stage import Assigned, Stage

MEMORY = "forecast.memory.v1"

# A site that fell silent in the middle of a step holds the position; after so many batches its open step is
# remembered as it stands, so that the position moves on.
_PATIENCE_BATCHES = 200


@dataclass(slots=True)
class PartitionHistories:
    """The histories of the sites of one partition. Each depends on its own site's states alone, in their order."""

    step_seconds: float
    run_id: str
    histories: dict[str, SiteHistory] = field(default_factory=dict)
    held: Held = field(default_factory=Held)

    def fold(self, arrived: list[Arrived], next_offset: int) -> list[SiteForecast]:
        """Takes a batch of states; returns the forecasts of the sites whose step closed."""
        forecasts, feeds = [], set()
        for each in arrived:
            state = each.record
            if not isinstance(state, LoadState):
                continue
            history = self.histories.setdefault(state.site_id, history_for(self.step_seconds))
            feeds.add(state.site_id)
            if history.fold(state):
                forecast = predict(history, state.fleet_id, state.site_id, self.run_id)
                if forecast:
                    forecasts.append(forecast)
        self.held.hold(next_offset, feeds)
        return forecasts

    def to_remember(self, forecasts: list[SiteForecast]) -> set[str]:
        """The sites whose history must be remembered now."""
        sites = {forecast.site_id for forecast in forecasts}
        if self.held.waiting > _PATIENCE_BATCHES:
            sites |= {str(site_id) for site_id in self.held.oldest_feeds()}
        return sites


def attach(stage: Stage) -> None:
    """Adds the agent that forecasts."""
    intake = stage.intake(SITE_STATE)

    async def histories_of(batch: Batch) -> tuple[Memory, PartitionHistories]:
        memory = await opened(stage, MEMORY, batch.partition)
        histories = {site_id: SiteHistory.from_json(value) for site_id, value in memory.found.items()}
        return memory, PartitionHistories(stage.settings.forecast_step_seconds, stage.settings.run_id, histories)

    partitions = Assigned(histories_of)

    async def forecast(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            memory, state = await partitions.of(batch)
            forecasts = state.fold(await stage.read(intake, batch), batch.next_offset)
            await stage.send(SITE_FORECASTS, forecasts)
            sites = state.to_remember(forecasts)
            remembered = [(site_id, state.histories[site_id].to_json()) for site_id in sites]
            await memory.remember(remembered, batch.next_offset)
            position = state.held.release(sites)
            if position is not None:
                stage.mark_out(batch, position)

    stage.agent(SITE_STATE.name, forecast)
