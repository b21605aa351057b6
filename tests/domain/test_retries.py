from service.retries import FIRST_SECONDS, LONGEST_SECONDS, MOST_REMEMBERED, Retries


class _Moment:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def _rest_after(retries: Retries, moment: _Moment, *, in_vain: bool) -> float:
    """How long it is left alone after one more failure, to the half second."""
    retries.failed("a", in_vain=in_vain)
    begun = moment.at
    while retries.rests("a"):
        moment.at += 0.5
    return moment.at - begun


def test_what_fails_in_vain_is_left_alone_ever_longer_up_to_a_bound() -> None:
    moment = _Moment()
    retries = Retries(moment)
    rests = [_rest_after(retries, moment, in_vain=True) for _ in range(12)]
    assert rests[:4] == [FIRST_SECONDS * 2**n for n in range(4)]
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_SECONDS


def test_what_may_go_at_any_moment_is_tried_again_soon_each_time() -> None:
    moment = _Moment()
    retries = Retries(moment)
    assert [_rest_after(retries, moment, in_vain=False) for _ in range(5)] == [FIRST_SECONDS] * 5


def test_what_went_well_is_forgotten_and_others_rest_on() -> None:
    moment = _Moment()
    retries = Retries(moment)
    for _ in range(3):
        retries.failed("a", in_vain=True)
        retries.failed("b", in_vain=True)
    retries.done("a")
    retries.done("never failed")
    assert not retries.rests("a")
    assert retries.rests("b")
    assert len(retries) == 1
    assert _rest_after(retries, moment, in_vain=True) == FIRST_SECONDS


def test_memory_is_bounded_and_the_one_that_failed_longest_ago_falls_out() -> None:
    retries = Retries(_Moment())
    for number in range(MOST_REMEMBERED):
        retries.failed(str(number), in_vain=True)
    retries.failed("0", in_vain=True)
    retries.failed("one more", in_vain=True)
    assert len(retries) == MOST_REMEMBERED
    assert not retries.rests("1")
    assert retries.rests("0")
    assert retries.rests("one more")
