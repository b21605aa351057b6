"""Pages of the flow on the wire: what a client draws, and where each tap leads."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.cards import BalanceView
from schemas.ecards import ecard_view
from schemas.housing_funds import HousingFundView
from schemas.wire import Body, View
from service.cards import Status
from service.ecards import EcardLevel, EcardStatus, Held
from service.locale import Locale
from service.pages import Page


class RegionQuery(Body):
    """For which region; the deployment's own when none is named."""

    region: Annotated[str | None, Field(pattern=r"^[0-9]{6}$", examples=["990100"])] = None


class CrumbView(View):
    """A step of the path from home."""

    page_id: str
    title: str


class OpensView(View):
    """The page that comes next."""

    page: str


class EntryView(View):
    """Something to tap. The icon is a name that the client draws."""

    entry_id: str
    title: str
    subtitle: str
    icon: str
    opens: OpensView


class SectionView(View):
    """Entries under one heading."""

    title: str
    entries: list[EntryView]


class SubmitView(View):
    """Where a form goes. `{name}` in the URL is that member of the page's panel, or of the answer to the form before."""

    method: Literal["POST"]
    url: str


class FormFieldView(View):
    """One field. A hidden one is sent with its value; `maxLength` counts characters as typed."""

    name: str
    label: str
    type: str
    pattern: str | None
    max_length: int | None
    required: bool
    help: str | None
    value: str | None


class FormView(View):
    """What to fill in, where it goes, and the page that comes after success (null: back to where one came from)."""

    submit: SubmitView
    fields: list[FormFieldView]
    opens: OpensView | None


class PanelView(BalanceView):
    """The balances of the card that matters most, with what tells it from another; empty for somebody without a card."""

    card_id: str | None  # type: ignore[assignment]  # a person may have no card
    card_number_masked: str | None
    status: Status | None


class EcardPanelView(View):
    """The e-card as it is now; nothing in it for somebody who has none. `message` is the reason in words."""

    ecard_id: str | None
    card_id: str | None
    card_number_masked: str | None
    level: EcardLevel | None
    status: EcardStatus | None
    reason: str | None
    message: str | None


def ecard_panel(held: Held | None, locale: Locale) -> EcardPanelView:
    view = ecard_view(held, locale) if held is not None else None
    return EcardPanelView(**{name: getattr(view, name, None) for name in EcardPanelView.model_fields})


def _is_none(value: object) -> bool:
    return value is None


class PageView(View):
    """One page. `panel` and `form` are there on the pages that have one."""

    page_id: str
    title: str
    breadcrumb: list[CrumbView]
    requires: Literal["nothing", "session"]
    sections: list[SectionView]
    panel: Annotated[PanelView | EcardPanelView | HousingFundView | None, Field(exclude_if=_is_none)]
    form: Annotated[FormView | None, Field(exclude_if=_is_none)]


def page_view(page: Page, panel: PanelView | EcardPanelView | HousingFundView | None) -> PageView:
    form = page.form
    return PageView(
        page_id=page.page_id,
        title=page.title,
        breadcrumb=[CrumbView(page_id=crumb.page_id, title=crumb.title) for crumb in page.breadcrumb],
        requires=page.requires,
        sections=[
            SectionView(
                title=section.title,
                entries=[
                    EntryView(
                        entry_id=entry.entry_id,
                        title=entry.title,
                        subtitle=entry.subtitle,
                        icon=entry.icon,
                        opens=OpensView(page=entry.opens.page),
                    )
                    for entry in section.entries
                ],
            )
            for section in page.sections
        ],
        panel=panel,
        form=None
        if form is None
        else FormView(
            submit=SubmitView(method=form.submit.method, url=form.submit.url),
            fields=[
                FormFieldView(
                    name=f.name,
                    label=f.label,
                    type=f.type,
                    pattern=f.pattern,
                    max_length=f.max_length,
                    required=f.required,
                    help=f.help,
                    value=f.value,
                )
                for f in form.fields
            ],
            opens=OpensView(page=form.opens.page) if form.opens else None,
        ),
    )
