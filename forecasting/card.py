"""What is said of a trained model: what it was made of, how it did, and what it needs to be loaded."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.envelope import Value
from schemas.units import Count, PositiveSeconds, RunId, Text, UtcTime

# A folder is named so: no separators, no leading dot.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Loss = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArtifactError(ValueError):
    """An artefact is not to be used; the message is one line that says what is wrong with it."""


class Versions(Value):
    """What a model was made with. A model is loaded only where features and scikit-learn's x.y are the same."""

    gridtide: Text
    python: Text
    numpy: Text
    scikit_learn: Text
    features: Sha256 = Field(description="SHA-256 of the code that makes the features, and forecasts of them")


class Losses(Value):
    """Pinball loss on the steps held out, over persistence's mean absolute error there: the lower the better.

    One for each horizon of each series, averaged.
    """

    candidate: Loss | None = Field(description="this model; null where it is not finite")
    baseline: Loss | None = Field(description="the statistical forecaster")
    serving: Loss | None = Field(None, description="the model that served then; null where none did")
    serving_name: Text | None = None


class ModelCard(Value):
    """All that is known of one artefact. Its place is `card.json`, beside the model."""

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    run_id: RunId
    trained_at: UtcTime
    data_starts_at: UtcTime = Field(description="first step of the history that it was trained on")
    held_out_from: UtcTime = Field(description="where training ends and the steps that judge it begin")
    data_ends_at: UtcTime = Field(description="end of the steps that judge it")
    sites: list[Text] = Field(description="sites, or files, whose load it was trained on")
    series: Count = Field(description="series of load: totals and service classes of the sites")
    steps: Count = Field(description="observed steps trained on, over all series")
    held_out_steps: Count = Field(description="observed steps that judge it, over all series")
    step_seconds: PositiveSeconds
    horizons_seconds: list[Count]
    features: list[Text]
    seed: Count
    losses: Losses
    promoted: bool
    reason: Text = Field(description="why it was promoted, or was not")
    versions: Versions
    model_sha256: Sha256
