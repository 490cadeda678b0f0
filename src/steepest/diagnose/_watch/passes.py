"""The observations of one forward pass of a model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils.weak import TensorWeakRef

from steepest.diagnose._watch.outputs import Output

__all__ = ["Pass", "Passes"]


def _nothing() -> None:
    return None


@dataclass(eq=False)
class Pass:
    """One forward pass.

    Attributes:
        whole: Whether the model was called; else only parts of it were.
        training: Whether the model was in training mode.
        samples: By site, in the order in which they were seen.
        silent: The modules of the sites that were seen while no graph was made: by a checkpoint, or as no part of what
            trains.
        alive: By site, the tensor that was sampled, as long as it is alive.
        nodes: The names of the weight layers by their node in the graph, if they are needed.
        outputs: What the model returned.
        reached: Whether a backward pass has come to it.
        layer: The weight layer that was run last.
        name: The site that was seen last.
        passed_on: What the last module returned that may be the next one's input.
        channels_first: Whether that layer has channels before positions.
        repeating: Whether that layer had been seen before.
    """

    whole: bool = False
    training: bool = True
    samples: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    silent: dict[str, str] = field(default_factory=dict[str, str])
    alive: list[tuple[str, TensorWeakRef]] = field(default_factory=list[tuple[str, TensorWeakRef]])
    nodes: dict[Any, str] | None = None
    outputs: list[Output] = field(default_factory=list[Output])
    reached: bool = False
    layer: str = ""
    name: str = ""
    passed_on: Callable[[], Tensor | None] = _nothing
    channels_first: bool = False
    repeating: bool = False

    def came_from(self, tensor: Tensor) -> None:
        """Remember what a module has returned, without keeping it alive."""
        self.passed_on = weakref.ref(tensor)


class Passes:
    """The forward passes of a step, of which one is kept: the first that a backward pass comes to.

    Before the pass that trains there may be others with a graph: validation without `no_grad`, a second view of the
    data, a pass for an adversary. While none is reached the first and the latest are kept; when one is, no other is
    watched: further accumulated batches are not sampled. Each thread has a pass of its own, `open` while the model is
    running.
    """

    def __init__(self) -> None:
        self._kept: list[Pass] = []
        self.open: dict[int, Pass] = {}
        self.settled = False

    def begin(self, thread: int, training: bool) -> Pass | None:
        """Begin a pass of the whole model, if it is to be watched."""
        kept = [each for each in self._kept if each.whole]
        self.open.pop(thread, None)
        if self.settled or (kept and not training):  # of validation, the first pass at most
            self._kept = kept
            return None
        begun = Pass(whole=True, training=training)
        self.open[thread] = begun
        self._kept = [*kept[:1], begun]
        return begun

    def loose(self) -> Pass | None:
        """Return the pass of parts that were called without the model; None where the model was called."""
        if not self._kept:
            self._kept = [Pass()]
        return None if self._kept[0].whole or self.settled else self._kept[0]

    def end(self, thread: int) -> Pass | None:
        """End the pass of this thread."""
        return self.open.pop(thread, None)

    def reach(self, reached: Pass) -> None:
        """Record that a backward pass has reached this one; the first of the kept passes that is reached counts."""
        if not self.settled and reached in self._kept:
            reached.reached = self.settled = True

    def chosen(self) -> Pass:
        """Return the pass that trains, as far as it is known."""
        for wanted in ("reached", "training"):
            for each in self._kept:
                if getattr(each, wanted):
                    return each
        return self._kept[0] if self._kept else Pass()
