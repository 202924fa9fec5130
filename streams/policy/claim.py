"""The record by which a planner takes a fleet on. Pure."""

from datetime import datetime

from schemas.plan import FleetPlan


def claim(last: FleetPlan | None, run_id: str, fleet_id: str, owner: str, epoch: int, now: datetime) -> FleetPlan:
    """A plan of the new epoch that carries the last one on; where there was none it holds what there is."""
    numbering = {
        "kind": "claim",
        "epoch": epoch,
        "sequence": 0,
        "revision": 0,
        "owner": owner,
        "issued_at": now,
        "explanation": f"planned by {owner} from epoch {epoch} on",
    }
    if last is not None:
        return last.model_copy(update=numbering)
    return FleetPlan.model_validate({"run_id": run_id, "fleet_id": fleet_id, "mode": "hold", **numbering})
