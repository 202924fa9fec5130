"""What every record on the bus carries, whatever its topic."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.units import RunId

LIVE_RUN = "live"


class Value(BaseModel):
    """A frozen value. Unknown fields are ignored, so that a newer writer of the same version can be read."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class Record(Value):
    """A frozen, strictly validated record.

    Within one schema version fields are only ever added, each with a default; anything else is a new version.
    """

    schema_version: Literal[1] = Field(default=1, description="version of this record's contract")
    run_id: RunId = Field(LIVE_RUN, description="`live`, or the name of the replay or demo that made the record")

    def to_json(self) -> bytes:
        """The bytes on the bus: compact JSON, fields in declared order, so that equal records are equal bytes."""
        return self.__pydantic_serializer__.to_json(self)
