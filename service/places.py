"""Places of workers: the ports of one service that several processes share.

True here: each place has a socket of its own on the public port, between which the kernel spreads connections, and an admin
port of its own. The parent keeps them open and no worker does more than borrow them, so a connection that waits to be taken
outlives the worker it waited for. A port that somebody else listens on is refused. Never here: a word on the connections.
"""

import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

from service.config import Config

_QUEUE: Final = 128


class PlaceError(Exception):
    """The ports cannot be had; the text says which and why, for the person who started it."""


@dataclass(slots=True)
class Place:
    """Where one worker listens, whoever that is at the moment. Numbers begin at 0."""

    number: int
    public: socket.socket
    admin: socket.socket

    def renew(self) -> None:
        """Another public socket: what waits for this place is told so and asks again, and nothing new comes to it.

        Not before a worker listens on it, that is.
        """
        family, address = self.public.family, self.public.getsockname()
        # Bound before the old one is gone, so that nobody else can come between.
        renewed = _bound(family, address, shared=True)
        self.public.close()
        self.public = renewed

    def close(self) -> None:
        """Give the ports back."""
        self.public.close()
        self.admin.close()


def take_places(config: Config) -> list[Place]:
    """A place for each of the configured workers. Raises PlaceError."""
    if sys.platform != "linux":
        raise PlaceError("YIKA_WORKERS: only Linux spreads connections over several workers")
    family, address = _address("YIKA_HOST", config.host, config.port)
    # Sockets that share a port join whoever shares it already, also another service: so first as one that does not share.
    _bind(family, address, shared=False).close()
    first = _bind(family, address, shared=True)
    # From here on nobody else can have the port. The others listen when their workers do: until then nothing comes to them.
    first.listen(_QUEUE)
    rest = [_bind(family, first.getsockname(), shared=True) for _ in range(1, config.workers)]
    return [Place(number, public, _admin(config, number)) for number, public in enumerate((first, *rest))]


def borrowed(descriptor: int) -> socket.socket:
    """A parent's socket, in the worker that it was given to."""
    # What the worker itself starts must not have it.
    os.set_inheritable(descriptor, False)  # noqa: FBT003  the name of the function says what False is
    return socket.socket(fileno=descriptor)


def url(listening: socket.socket, host: str) -> str:
    """Where a socket answers."""
    return f"http://{host}:{listening.getsockname()[1]}"


def _admin(config: Config, number: int) -> socket.socket:
    """The admin port of a place: ports that follow on one another, as set, else after the public one.

    Where none was asked for and that one is taken, any free one.
    """
    begin = config.admin_port_or_next
    family, address = _address("YIKA_ADMIN_HOST", config.admin_host, begin + number if begin else 0)
    try:
        return _bind(family, address, shared=False)
    except PlaceError:
        if config.admin_port is not None:
            raise
        return _bind(family, (address[0], 0, *address[2:]), shared=False)


def _address(setting: str, host: str, port: int) -> tuple[int, tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PlaceError(f"{setting}: {error.strerror}") from None
    addresses = {(int(family), address) for family, _, _, _, address in found}
    if len(addresses) != 1:
        raise PlaceError(f"{setting} stands for several addresses; several workers listen on one, such as 0.0.0.0")
    return addresses.pop()


def _bind(family: int, address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    try:
        return _bound(family, address, shared=shared)
    except OSError as error:
        raise PlaceError(f"port {address[1]} on {address[0]} cannot be used: {error.strerror}") from None


def _bound(family: int, address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.settimeout(0)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made
