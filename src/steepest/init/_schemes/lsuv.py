"""Layer-sequential unit variance."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from steepest._check import at_least, in_range
from steepest.errors import InvalidArgument
from steepest.init._fill.fill import Fill
from steepest.init._fill.model import Filled, Setting
from steepest.init._graph.recorder import Inputs, call
from steepest.init._graph.trace import run_untouched
from steepest.init._initializer import Initializer
from steepest.init._layers.kinds import unwrapped
from steepest.init._layers.layer import Layer
from steepest.init._schemes.by_fan import fill_orthogonal

__all__ = ["LSUV"]


@dataclass(frozen=True, eq=False, repr=False)
class LSUV(Initializer):
    """Orthogonal weights, each divided until its layer's outputs on the data have unit variance.

    The layers are taken in the order in which a forward reaches them, all in one run: the input of each layer is
    already scaled. A layer that is called several times is scaled at its first call. Left orthogonal, as the table
    says, are layers that the data do not reach or whose output on them is constant, recurrent layers, and the
    projections of `nn.MultiheadAttention`, whose outputs cannot be observed.

    Args:
        data: One batch of the model's inputs: a tensor, or a tuple or a dict of them. None uses that of `initialize`.
        tolerance: The accepted deviation of a variance from 1, > 0.
        iterations: The maximum number of divisions per weight, from 1 to 1000. Without biases one is exact.

    Raises:
        InvalidArgument: If the tolerance or the iterations are out of range; at the call, if there are no data.

    >>> model = nn.Sequential(nn.Linear(8, 50), nn.Tanh(), nn.Linear(50, 50))
    >>> x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    >>> table = LSUV(x)(model, torch.Generator().manual_seed(0))
    >>> print(f"{model(x).var().item():.3f}")
    1.000

    Source: Mishkin and Matas, "All you need is a good init" (2015, arXiv:1511.06422).
    """

    data: Any = None
    tolerance: float = field(default=0.1, kw_only=True)
    iterations: int = field(default=10, kw_only=True)
    reads_activation: ClassVar[bool] = False

    def __post_init__(self) -> None:
        in_range("tolerance", self.tolerance, "(0, inf)")
        at_least("iterations", self.iterations, 1, most=1000)

    def __repr__(self) -> str:
        # Short, and different for other data: a trial identifies a scheme by its repr.
        return f"LSUV({_described(self.data)}, tolerance={self.tolerance:g}, iterations={self.iterations})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LSUV) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def weight(self, weight: Tensor, layer: Layer, generator: Generator) -> Fill:
        """Fill with orthonormal rows or columns."""
        fan, std = fill_orthogonal(weight, layer, 1.0, generator)
        return Fill("orthogonal", std, fan, 1.0)

    def _inputs(self, data: Any) -> Any:
        """Return the data of the call, or else the scheme's own.

        Raises:
            InvalidArgument: If there are none.
        """
        found = self.data if data is None else data
        if found is None:
            raise InvalidArgument(
                "LSUV must have data, to measure output variances", remedy="Pass LSUV(data), or data= to initialize."
            )
        return found

    def _start(self, model: nn.Module, generator: Generator, data: Any, setting: Setting) -> list[Filled]:
        """Fill with orthogonal weights, then scale each as one run reaches it."""
        starts = super()._start(model, generator, data, setting)
        scaling = Scaling(starts, self.tolerance, self.iterations)
        run_untouched(lambda inputs: scaling.run(model, inputs), model, data)
        return starts


class Scaling:
    """The run in which each layer's weight is divided as soon as its output is there."""

    def __init__(self, starts: list[Filled], tolerance: float, iterations: int) -> None:
        self.tolerance, self.iterations = tolerance, iterations
        self.ahead: dict[nn.Module, Filled] = {}
        for start in starts:
            if start.is_weight:
                start.fill = replace(start.fill, rule=f"{start.fill.rule}, not scaled: no output of it was seen")
                if start.name.rpartition(".")[2] == "weight":
                    self.ahead[start.module] = start

    def run(self, model: nn.Module, inputs: Inputs) -> None:
        """Run the model once."""
        hooks: list[Any] = [module.register_forward_hook(self.scale, with_kwargs=True) for module in self.ahead]
        try:
            call(unwrapped(model), inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def scale(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Divide a layer's weight and return its new output; a hook behind the layer."""
        start = self.ahead.pop(module, None)
        if start is None:
            return None
        orthogonal = start.fill.rule.partition(", not scaled")[0]
        variance, divisor = _variance(output), 1.0
        if not (math.isfinite(variance) and variance > 0):
            words = f"{orthogonal}, not scaled: the variance of its output is {variance:g}"
            start.fill = replace(start.fill, rule=words)
            return None
        for _ in range(self.iterations):
            divisor *= math.sqrt(variance)
            start.parameter.div_(math.sqrt(variance))
            output = module.forward(*args, **kwargs)
            variance = _variance(output)
            if abs(variance - 1) <= self.tolerance or not variance > 0:
                break
        words = f"LSUV: {orthogonal}, divided by {divisor:.4g} for an output variance of {variance:.3g}"
        start.fill = Fill(words)
        return output


def _variance(output: Tensor) -> float:
    values = output if output.dtype == torch.float64 else output.float()
    return float(values.var(correction=0)) if values.numel() else math.nan


def _described(data: Any) -> str:
    if isinstance(data, tuple):
        return f"({', '.join(_described(each) for each in data)})"
    if isinstance(data, dict):
        return f"{{{', '.join(f'{key}: {_described(each)}' for key, each in data.items())}}}"
    if not isinstance(data, Tensor):
        return repr(data)
    content = data.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    shape = " x ".join(map(str, data.shape))
    return f"<{shape} {str(data.dtype).removeprefix('torch.')} {hashlib.sha256(content).hexdigest()[:12]}>"
