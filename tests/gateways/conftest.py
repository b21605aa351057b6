"""What tests of gateways have in common."""

from types import ModuleType

import pytest
import structlog
from structlog.testing import LogCapture
from structlog.typing import EventDict

from service.gateways import aliyun, calls, smtp, webhook

ADAPTERS: tuple[ModuleType, ...] = (aliyun, calls, smtp, webhook)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[EventDict]:
    """Every line that adapters log, whatever a service of another test in this process has set up."""
    capture = LogCapture()
    everything = structlog.make_filtering_bound_logger(0)
    for module in ADAPTERS:
        logger = structlog.wrap_logger(structlog.PrintLogger(), processors=[capture], wrapper_class=everything)
        monkeypatch.setattr(module, "_log", logger)
    return capture.entries
