"""Which row of the API a request is for.

True here: a path is matched part by part, a written part before a `{name}`; what a client put into the place of a name is
one part, never empty. Never here: a pattern that a client could make slow.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

from service.errors import Refusal

TargetT = TypeVar("TargetT")

UNKNOWN: Final = "unknown"


class MethodNotAllowedError(Exception):
    """There is such a path. Carries the methods that it has, in order."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__()
        self.allowed = allowed


@dataclass(slots=True)
class _Node(Generic[TargetT]):
    written: "dict[str, _Node[TargetT]]" = field(default_factory=dict)
    named: "_Node[TargetT] | None" = None
    path: str = UNKNOWN
    names: tuple[str, ...] = ()
    targets: dict[str, TargetT] = field(default_factory=dict)


class Routing(Generic[TargetT]):
    """Targets by method and path, such as `/v1/cards/{card_id}`."""

    def __init__(self, rows: Iterable[tuple[str, str, TargetT]]) -> None:
        self._root: _Node[TargetT] = _Node()
        for method, path, target in rows:
            node, names = self._root, []
            for part in path[1:].split("/"):
                if part.startswith("{"):
                    names.append(part[1:-1])
                    node.named = node.named or _Node()
                    node = node.named
                else:
                    node = node.written.setdefault(part, _Node())
            if method in node.targets:
                raise ValueError(f"{method} {path} is there twice")
            node.path, node.names, node.targets[method] = path, tuple(names), target

    def find(self, method: str, path: str) -> tuple[TargetT, str, dict[str, str]]:
        """The target, the path as the API names it, and what stands in the places of its names.

        Refuses with `not_found`; raises MethodNotAllowedError.
        """
        node, values = self._root, []
        for part in path[1:].split("/"):
            following = node.written.get(part)
            if following is None:
                following = node.named
                if following is None or not part:
                    raise Refusal("not_found")
                values.append(unquote(part) if "%" in part else part)
            node = following
        target = node.targets.get(method)
        if target is None:
            if not node.targets:
                raise Refusal("not_found")
            raise MethodNotAllowedError(tuple(sorted(node.targets)))
        return target, node.path, dict(zip(node.names, values, strict=True))
