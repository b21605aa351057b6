from ipaddress import ip_network
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request

from handlers.access import address

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def _seen(peer: str, forwarded: str | None, *, proxies: bool = True) -> str:
    """The address that limits are counted for; the transport is the only thing here that is not real."""
    transport = Mock()
    transport.get_extra_info = lambda name: (peer, 1234) if name == "peername" else None
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    return address(make_mocked_request("POST", "/", headers=headers, transport=transport), PROXIES if proxies else [])


@pytest.mark.parametrize("forwarded", [None, "1.2.3.4", "1.2.3.4, 10.0.0.1"])
def test_a_stranger_who_says_to_be_a_proxy_is_not_believed(forwarded: str | None) -> None:
    assert _seen("203.0.113.7", forwarded) == "203.0.113.7"
    assert _seen("203.0.113.7", forwarded, proxies=False) == "203.0.113.7"


def test_without_proxies_the_header_is_nothing() -> None:
    assert _seen("10.0.0.1", "1.2.3.4", proxies=False) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.9.9.9", "1.2.3.4"),
        ("10.1.1.1, 10.9.9.9", "10.1.1.1"),
        (None, "10.0.0.1"),
        ("nonsense", "10.0.0.1"),
        ("1.2.3.4:5678", "1.2.3.4"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
    ],
)
def test_behind_proxies_the_nearest_that_is_none_of_ours_is_the_client(forwarded: str | None, client: str) -> None:
    assert _seen("10.0.0.1", forwarded) == client
