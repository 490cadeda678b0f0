"""What decides the numbers of a run, so that a run of yesterday's code is never counted as today's."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DIGEST", "Content", "Identity", "Part", "alike", "digest"]

Part = Mapping[str, Any]
"""By name, in the user's words: text or a whole number, which must be the same; a float, which must be nearly the same;
or [text, tolerance, number, ...], where the text must be the same and every number within the tolerance."""

Content = Mapping[str, Part]
"""The parts by kind: settings, code, values, packages, examples, probe."""

DIGEST = "#"
"""Text that begins so is a digest, which says nothing but that something changed."""

# Machines that share a storage differ in the last bits of a number, and a training step makes more of them.
_RELATIVE = 1e-4
_ABSOLUTE = 1e-8
_LONGEST_SHOWN = 40

# Of these a name that only one side has is no difference: a value that only one of them looks at belongs to code that
# only one of them has, and an example that only one of them has comes out different at every reading.
_WHERE_BOTH = ("values", "examples")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What decides the numbers of a run, besides its learning rate and its seed.

    Attributes:
        request: What was asked for by name: task, optimizer, init, steps, schedule, device. Runs of another request are
            never used.
        content: What these are: code, values, data, and what came out of first steps. Runs whose content differs are
            used only if a person says that the difference does not matter.
        versions: Those of torch and steepest; a difference is told, and no more.
    """

    request: Mapping[str, str | int]
    content: Content
    versions: Mapping[str, str]

    @property
    def key(self) -> str:
        """A digest of all of it, under which a storage keeps it."""
        return digest([self.request, self.content, self.versions])

    def matches(self, other: Identity) -> bool:
        """Return whether runs of the other one are runs of this one."""
        return self.request == other.request and not self.differences(other)

    def differences(self, other: Identity) -> list[str]:
        """Return in the user's words what differs in content from the other, which was there before.

        What came out of the first steps is named only where nothing else explains it.
        """
        found: dict[str, str] = {}
        for kind in sorted({*self.content, *other.content} - {"probe"}):
            # A constant is both code and a value, of which the value says more and comes later.
            found.update(_differences(kind, self.content.get(kind, {}), other.content.get(kind, {})))
        if not found:
            found.update(_differences("probe", self.content.get("probe", {}), other.content.get("probe", {})))
        return list(found.values())


def digest(value: Any) -> str:
    """Return a digest of plain JSON, whatever the order of its names.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return DIGEST + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _differences(kind: str, new: Part, old: Part) -> Iterator[tuple[str, str]]:
    """Yield what differs, each by its name and in a phrase."""
    for name in {**new, **old}:
        if name not in new or name not in old:
            if kind not in _WHERE_BOTH:
                yield name, f"{name} is {'gone' if name in old else 'new'}"
        elif not alike(new[name], old[name]):
            shown = [_shown(value) for value in (new[name], old[name])]
            if all(shown) and shown[0] != shown[1]:
                yield name, f"{name} is {shown[0]} instead of {shown[1]}"
            else:
                whole = name.partition(",")[0] if kind == "examples" else name
                yield whole, f"{whole} changed"


def alike(a: Any, b: Any) -> bool:
    """Return whether two entries of a part are the same."""
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b) or a[:1] != b[:1]:
            return False
        (within, *numbers), (other_within, *others) = a[1:], b[1:]
        return all(abs(x - y) <= max(within, other_within) for x, y in zip(numbers, others, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def _shown(value: Any) -> str:
    """Return a value that can be shown to a person in a line, else nothing."""
    if isinstance(value, list):
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "" if text.startswith(DIGEST) or len(text) > _LONGEST_SHOWN else text
