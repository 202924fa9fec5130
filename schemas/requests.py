"""inference.requests.v1: what the inference servers were asked for and served."""

from pydantic import Field

from schemas.envelope import Record, Value
from schemas.latency import LatencyCounts
from schemas.units import Count, Many, PositiveSeconds, ServiceClassId, SiteId, SourceId, UtcTime


class ClassRequests(Value):
    """One service class over one interval. `tokens` are generated (decode) tokens unless `prompt` is said."""

    service_class: ServiceClassId
    requests_arrived: Count
    requests_served: Count
    prompt_tokens_arrived: Count
    tokens_arrived: Count = Field(description="tokens that the arrived requests will want generated")
    tokens_served: Count
    tokens_queued: Count = Field(description="tokens waiting at the end of the interval")
    ttft_seconds_counts: LatencyCounts = Field(
        description="served requests by time to first token, in the buckets of LATENCY_BOUNDS_SECONDS"
    )


class RequestRates(Record):
    """One site's inference load over the interval that ends at `observed_at`."""

    site_id: SiteId
    source: SourceId
    sequence: Count
    observed_at: UtcTime
    interval_seconds: PositiveSeconds
    classes: Many[ClassRequests] = Field(min_length=1, max_length=64)
