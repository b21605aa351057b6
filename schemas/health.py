"""Health on the wire."""

from typing import Literal

from schemas.wire import View


class HealthView(View):
    """How this process is."""

    status: Literal["ok", "ready"]
