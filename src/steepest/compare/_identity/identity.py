"""The identity of a run: what determines its results, so that no run of older code is counted as a run of this one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DIGEST", "Content", "Identity", "Part", "alike", "digest"]

Part = Mapping[str, Any]
"""By name, in the user's words: text or a whole number, which must be equal; a float, which must be nearly equal;
or [text, tolerance, number, ...], where the text must be equal and every number within the tolerance."""

Content = Mapping[str, Part]
"""The parts by kind: settings, code, values, packages, examples, probe."""

DIGEST = "#"
"""The first character of a digest, which shows only that something changed."""

# Machines that share a storage differ in the last bits of a number, and a training step makes more of them.
_RELATIVE = 1e-4
_ABSOLUTE = 1e-8
_LONGEST_SHOWN = 40

# In these kinds a name that only one side has is no difference: a value that only one of them reads belongs to code
# that only one of them has, and an example that only one of them has differs at every reading.
_WHERE_BOTH = ("values", "examples")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What determines the results of a run, besides its learning rate and its seed.

    Attributes:
        request: What was requested by name: task, optimizer, init, steps, schedule, warm-up, device. Runs of another
            request are never used.
        content: Code, values and data behind these names, and the results of first steps. Runs whose content differs
            are used only if the user accepts the difference.
        versions: The versions of torch and steepest; a difference is reported, and the runs are used.
    """

    request: Mapping[str, str | int]
    content: Content
    versions: Mapping[str, str]

    @property
    def key(self) -> str:
        """A digest of the identity, under which a storage keeps it."""
        return digest([self.request, self.content, self.versions])

    def matches(self, other: Identity) -> bool:
        """Return whether runs of the other one are runs of this one."""
        return self.request == other.request and not self.differences(other)

    def differences(self, other: Identity) -> list[str]:
        """Return in the user's words the differences in content from another, earlier identity.

        Different results of the first steps are named only where nothing else explains them.
        """
        found: dict[str, str] = {}
        for kind in sorted({*self.content, *other.content} - {"probe"}):
            # A constant is both code and a value, of which the value says more and comes later.
            found.update(_differences(kind, self.content.get(kind, {}), other.content.get(kind, {})))
        if not found:
            found.update(_differences("probe", self.content.get("probe", {}), other.content.get("probe", {})))
        return list(found.values())


def digest(value: Any) -> str:
    """Return a digest of plain JSON that does not depend on the order of its names.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return DIGEST + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _differences(kind: str, new: Part, old: Part) -> Iterator[tuple[str, str]]:
    """Yield every difference, by its name and as a phrase."""
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
    """Return whether two entries of a part are equal within their tolerance."""
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b) or a[:1] != b[:1]:
            return False
        (within, *numbers), (other_within, *others) = a[1:], b[1:]
        return all(abs(x - y) <= max(within, other_within) for x, y in zip(numbers, others, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE) or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


def _shown(value: Any) -> str:
    """Return a value as short text, or "" if it cannot be shown in a line."""
    if isinstance(value, list):
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "" if text.startswith(DIGEST) or len(text) > _LONGEST_SHOWN else text
