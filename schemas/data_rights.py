"""The holder's copy and their erasure, on the wire."""

from typing import Annotated, Any

from pydantic import Field, JsonValue

from schemas.holders import AccessPage
from schemas.wire import Instant, View
from service.erasures import Erasure
from service.exports import Export

# A record as it is kept, in plain: its members differ from kind to kind, and grow with what is kept.
Records = list[dict[str, JsonValue]]


class ExportDataView(View):
    """Everything that is kept about me, in plain, by kind; newest first where there is an order."""

    identity: Records
    contacts: Records
    cards: Records
    applications: Records
    approvals: Records
    insurance_relations: Records
    looked_up: Annotated[Records, Field(description="What other offices said of me when I last asked, with its moment.")]
    ecards: Records
    ecard_codes: Records
    dependants: Annotated[Records, Field(description="Whom I may act for, or could.")]
    guardians: Annotated[Records, Field(description="Who may act for me, or could.")]
    visits: Records
    consents: Records
    messages: Records
    sessions: Records
    verifications: Records
    access_log: Annotated[AccessPage, Field(description="The newest entries; `nextCursor` goes on at /v1/me/access-log.")]


class ExportView(View):
    """My copy. `partial` names the kinds of which there are more than fit; mostly none."""

    export_id: str
    created_at: Instant
    partial: list[str]
    data: ExportDataView


class ErasureView(View):
    """My erasure, decided. It is carried out within minutes; this session has ended."""

    erasure_id: str
    asked_at: Instant


def export_view(export: Export, accesses: AccessPage) -> ExportView:
    # Records are JSON already. To look at each of their members again would hold everybody else up.
    return ExportView.model_construct(
        export_id=export.export_id,
        created_at=export.created_at,
        partial=list(export.collected.partial),
        data=ExportDataView.model_construct(**_by_field(export), access_log=accesses),
    )


def _by_field(export: Export) -> dict[str, Any]:
    """The records by the names of the fields; a kind without a field is a fault."""
    fields = {field.alias: name for name, field in ExportDataView.model_fields.items()}
    return {fields[word]: records for word, records in export.collected.records.items()}


def erasure_view(erasure: Erasure) -> ErasureView:
    return ErasureView(erasure_id=erasure.erasure_id, asked_at=erasure.asked_at)
