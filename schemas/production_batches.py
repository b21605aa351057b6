"""Production batches on the wire: what is made together, and what its checks have found."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from schemas.applications import RegionCodeText
from schemas.wire import Body, Instant, View
from service.ids import ApplicationId
from service.production_batches import MOST_CARDS, Batch, BatchState, Check, Plan

_Code = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]*$")]
_Id = Annotated[str, Field(min_length=1, max_length=64)]


class BatchStart(Body):
    """What is made together: for which applications of a region, by which supplier, as which product (both by their codes)."""

    supplier: Annotated[_Code, Field(examples=["card-works"])]
    product: Annotated[_Code, Field(examples=["gen3-a"])]
    region_code: RegionCodeText
    application_ids: Annotated[list[_Id], Field(min_length=1, max_length=MOST_CARDS)]

    def plan(self) -> Plan:
        wanted = tuple(ApplicationId(one) for one in dict.fromkeys(self.application_ids))
        return Plan(self.supplier, self.product, self.region_code, wanted)


class BatchCheck(Body):
    """What one of the three checks has found."""

    check: Check
    passed: bool


class ChecksView(View):
    """What the checks have found; null where nobody has said."""

    compliance: bool | None
    security: bool | None
    inter_region: bool | None


class BatchView(View):
    """A batch. A test batch is `underTest` until it has passed all three checks, and `failed` with one that it did not pass."""

    batch_id: str
    supplier: str
    product: str
    region_code: str
    is_test: bool
    state: BatchState
    checks: ChecksView
    application_ids: list[str]
    created_at: Instant


class BatchPage(View):
    """Batches of my regions, newest first."""

    items: list[BatchView]
    next_cursor: str | None
    has_more: bool


def _checks_view(checks: Mapping[Check, bool | None]) -> ChecksView:
    return ChecksView(
        compliance=checks["compliance"],
        security=checks["security"],
        inter_region=checks["interRegion"],
    )


def batch_view(batch: Batch) -> BatchView:
    return BatchView(
        batch_id=batch.batch_id,
        supplier=batch.supplier,
        product=batch.product,
        region_code=batch.region_code,
        is_test=batch.is_test,
        state=batch.state,
        checks=_checks_view(batch.checks),
        application_ids=list(batch.application_ids),
        created_at=batch.created_at,
    )
