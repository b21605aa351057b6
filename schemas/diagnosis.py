"""Diagnoses on the wire: what stands in the way of using a card, and the next steps with where and with what."""

from typing import Annotated

from pydantic import Field

from schemas.wire import View
from service.diagnosis import Axis, Beside, Diagnosis, Place
from service.locale import Locale, text
from service.regions import Material
from service.transitions import Action


class NextStepView(View):
    """Something to do, every place that asks the same for it, and what to bring or to know there."""

    action: Action | Beside
    channels: list[Place]
    materials: list[Material]


class BlockerView(View):
    """One thing in the way, on one axis, with every step that leads on; none where there is only to wait or to ask."""

    code: str
    axis: Axis
    message: str
    next_steps: list[NextStepView]


class DiagnosisView(View):
    """Whether the card can be used and activated, and what stands in the way.

    What is on the axes `bank`, `medical` and `pin` keeps an account or the PIN from working and not the card.
    """

    usable: Annotated[bool, Field(description="Whether the card's social function works now.")]
    can_activate: Annotated[bool, Field(description="Whether the card can be activated, online or at a counter.")]
    blockers: list[BlockerView]


def diagnosis_view(diagnosis: Diagnosis, locale: Locale) -> DiagnosisView:
    return DiagnosisView(
        usable=diagnosis.usable,
        can_activate=diagnosis.can_activate,
        blockers=[
            BlockerView(
                code=blocker.code,
                axis=blocker.axis,
                message=text(locale, f"reasons.{blocker.code}"),
                next_steps=[
                    NextStepView(action=step.action, channels=list(step.places), materials=list(step.materials))
                    for step in blocker.steps
                ],
            )
            for blocker in diagnosis.blockers
        ],
    )
