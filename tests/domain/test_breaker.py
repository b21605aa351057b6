"""The circuit breaker, by a clock that is moved."""

from datetime import timedelta

import pytest

from service.breaker import FAILURES, PAUSE, Breaker
from service.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.admits()
        breaker.failed()


def test_it_opens_after_so_many_failures_running_and_not_before(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    assert breaker.admits()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.admits()
    assert 1 <= breaker.retry_after <= PAUSE.total_seconds()


def test_an_answer_in_between_begins_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, FAILURES - 1)
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, FAILURES - 1)
    assert not breaker.is_open


def test_after_the_pause_one_goes_through_and_nobody_beside_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    clock.offset = PAUSE - timedelta(seconds=1)
    assert not breaker.admits()
    clock.offset = PAUSE
    assert breaker.admits()
    assert not breaker.admits()
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.admits()
    assert breaker.admits()


def test_a_probe_that_fails_begins_the_pause_anew(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, FAILURES)
    clock.offset = PAUSE
    fail(breaker, 1)
    assert not breaker.admits()
    clock.offset = 2 * PAUSE - timedelta(seconds=1)
    assert not breaker.admits()
    clock.offset = 2 * PAUSE
    assert breaker.admits()


def test_questions_that_were_out_when_it_opened_change_nothing_for_the_worse(breaker: Breaker, clock: Clock) -> None:
    for _ in range(FAILURES + 3):
        assert breaker.admits()
    for _ in range(FAILURES + 3):
        breaker.failed()
    assert breaker.is_open
    clock.offset = PAUSE
    assert breaker.admits()


def test_what_it_remembers_can_be_forgotten(breaker: Breaker) -> None:
    fail(breaker, FAILURES)
    breaker.forget()
    assert breaker.admits()
    assert breaker.retry_after == 1
