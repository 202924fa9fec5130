"""The forecast stage: load states in, a forecast out when a site's step closes, its history remembered."""

import asyncio
from collections.abc import AsyncIterable, Iterable

import structlog

from infra import metrics
from schemas.catalog import FORECAST_SCORES, SITE_FORECASTS, SITE_STATE
from schemas.score import ForecastScore
from streams.engine import Batch
from streams.memory import Memory, opened
from streams.stage import Assigned, Stage

log = structlog.get_logger()

MEMORY = "forecast.memory.v1"


def attach(stage: Stage) -> None:
    """Adds the agent that forecasts, and what looks for the model to do it with."""
    # scikit-learn takes seconds and a hundred megabytes, of which the other stages' processes need none.
    from streams.forecast.partition import PartitionHistories, histories_of  # noqa: PLC0415
    from streams.forecast.serving import Serving  # noqa: PLC0415

    intake = stage.intake(SITE_STATE)
    step_seconds, run_id = stage.settings.forecast_step_seconds, stage.settings.run_id
    serving = Serving(stage.settings.run_model_dir, step_seconds)

    def lost(site_id: str, why: str) -> None:
        log.warning("a remembered history is of no use: the site starts anew", site_id=site_id, reason=why)

    async def partition_of(batch: Batch) -> tuple[Memory, PartitionHistories]:
        metrics.forget_forecast_scores()  # a site may be another worker's now
        memory = await opened(stage, MEMORY, batch.partition)
        # In a thread, as what a batch takes: reading a thousand histories takes seconds.
        histories = await asyncio.to_thread(histories_of, memory.found, step_seconds, lost)
        return memory, PartitionHistories(step_seconds, run_id, stage.fleet_file, serving, histories)

    partitions = Assigned(partition_of)

    async def forecast(stream: AsyncIterable[Batch]) -> None:
        async for batch in stream:
            memory, state = await partitions.of(batch)
            arrived = await stage.read(intake, batch)
            # In a thread: a thousand sites take long enough to be missed by the group and by the watchdog.
            made = await asyncio.to_thread(state.fold, arrived, batch.next_offset)
            await stage.send(SITE_FORECASTS, made.forecasts)
            await stage.send(FORECAST_SCORES, made.scores)
            _tell(made.scores)
            sites = state.to_remember(made)
            remembered = await asyncio.to_thread(state.written, sites)
            await memory.remember(remembered, batch.next_offset)
            position = state.held.release(sites)
            if position is not None:
                stage.mark_out(batch, position)

    stage.background(serving.watch)
    stage.agent(SITE_STATE.name, forecast)


def _tell(scores: Iterable[ForecastScore]) -> None:
    for score in scores:
        place = (score.site_id, str(score.horizon_seconds))
        if score.wmape_ratio is not None and score.persistence_wmape_ratio is not None:
            metrics.FORECAST_WMAPE_RATIO.labels(*place).set(score.wmape_ratio)
            metrics.FORECAST_PERSISTENCE_WMAPE_RATIO.labels(*place).set(score.persistence_wmape_ratio)
        metrics.FORECAST_COVERAGE_RATIO.labels(*place).set(score.coverage_ratio)
        metrics.FORECAST_DRIFTING.labels(*place).set(score.is_drifting)
