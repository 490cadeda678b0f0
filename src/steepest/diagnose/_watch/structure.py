"""The parameters of a model and the optimizers that hold them, read anew in every step, as both may change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim.optimizer import Optimizer

from steepest._frozen import frozen_names, patterns_of
from steepest._layers import EMBEDDINGS
from steepest._sharding import is_sharded
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["ModelStructure", "Parameter"]

_NO_WEIGHT = re.compile(r"bias|pos|token|embed", re.IGNORECASE)


@dataclass(frozen=True)
class Parameter:
    """The properties of a parameter, over all records of a run.

    Attributes:
        name: Its name in `model.named_parameters()`.
        module: The name of the module that owns it.
        size: Its number of entries.
        is_weight: Whether it is a matrix or kernel and not an embedding.
        trainable: Whether it required a gradient at any record.
        optimised: Whether the optimizer held it at any record; None if no optimizer is known.
        frozen: Whether the user declared it frozen, and it did not move.
    """

    name: str
    module: str
    size: int
    is_weight: bool
    trainable: bool
    optimised: bool | None
    frozen: bool


class ModelStructure:
    """The parameters of a model, by all names that they had during the run.

    The parameter under a name may be replaced (a new head), added later (progressive growing), or removed. Layers are
    frozen and unfrozen, parameter groups are added. So a property of a parameter is one that held at any record.

    Raises:
        InvalidArgument: If the model has no parameters, or lazy ones, or the optimizers hold none of them.
        UnknownName: If a name in `frozen` is not a parameter or module.
    """

    def __init__(self, model: nn.Module, optimizers: tuple[Optimizer, ...], frozen: Iterable[str]) -> None:
        self.model, self._optimizers = model, optimizers
        self._patterns = patterns_of(frozen)
        self._declared = frozen_names(model, self._patterns)
        self.named: dict[str, nn.Parameter] = {}
        self._present: dict[str, nn.Parameter] = {}
        self._owner: dict[str, nn.Module] = {}
        self._trainable: set[str] = set()
        self._held: set[str] = set()
        self._flags: list[bool] = []
        self._groups: tuple[int, ...] = ()
        self._ids: set[int] = set()
        self._layout: list[int] = []
        self._modules: list[nn.Module] = []
        self._tables: list[Mapping[str, object]] = []
        self._read()
        if not self.named:
            raise InvalidArgument(
                "a model to watch must have parameters", got=type(model).__name__, remedy="Pass a module with layers."
            )
        if lazy := [name for name, p in self.named.items() if isinstance(p, UninitializedParameter)]:
            raise InvalidArgument(
                "a model to watch must know the shapes of its parameters",
                got=lazy[0],
                remedy="Run one batch through its lazy layers first.",
            )
        held = {id(p) for p in self._optimised()}
        if optimizers and not held & {id(p) for p in self.named.values()}:
            raise InvalidArgument(
                "the optimizer must hold parameters of the model that is watched",
                got=", ".join(type(optimizer).__name__ for optimizer in optimizers),
                remedy="Make the optimizer from model.parameters(), after the model is complete and on its device.",
            )
        self.look()
        self._begun = False

    def changed(self) -> bool:
        """Return whether modules or parameters have changed; if so, use the new ones from now on."""
        if self._sharded or self._layout == [id(each) for table in self._tables for each in table.values()]:
            return False
        self._read()
        return True

    def look(self, *, again: bool = False) -> None:
        """Read which parameters require gradients and are in optimizers; `again` even if no group has changed its size.

        The first record replaces what was read before it.
        """
        groups = tuple(len(group["params"]) for o in self._optimizers for group in o.param_groups)
        flags = [p.requires_grad for p in self._present.values()]
        if again or groups != self._groups:
            self._groups, self._ids = groups, {id(p) for p in self._optimised()}
        elif flags == self._flags:
            return
        self._flags = flags
        self._trainable.update(name for name, flag in zip(self._present, flags, strict=True) if flag)
        self._held.update(name for name, p in self._present.items() if id(p) in self._ids)

    def begin(self) -> None:
        """Forget what was read before the first record: parameters that are frozen by then never trained."""
        if not self._begun:
            self._begun = True
            self._trainable, self._held = set(), set()
            self.look(again=True)

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients in the order of the names; None where there is none, or the parameter was removed."""
        if len(self._present) == len(self.named):
            return [p.grad for p in self.named.values()]
        return [p.grad if name in self._present else None for name, p in self.named.items()]

    def known(self) -> set[nn.Parameter]:
        """Return the known parameters: those of the model and of the optimizers."""
        return {*self.model.parameters(), *self._optimised()}

    def described(self, moved: NDArray[np.bool_] | None = None) -> tuple[Parameter, ...]:
        """Return the properties of every parameter; `moved` says which have moved, even if declared frozen."""
        went = [False] * len(self.named) if moved is None else moved.tolist()
        return tuple(
            Parameter(
                name=name,
                module=name.rpartition(".")[0],
                size=p.numel(),
                is_weight=sum(n > 1 for n in p.shape) > 1
                and not isinstance(self._owner[name], EMBEDDINGS)
                and not _NO_WEIGHT.search(name.rpartition(".")[2]),
                trainable=name in self._trainable,
                optimised=name in self._held if self._optimizers else None,
                frozen=name in self._declared and not gone,
            )
            for (name, p), gone in zip(self.named.items(), went, strict=True)
        )

    def release(self) -> None:
        """Release the model and the optimizers."""
        self.model, self._optimizers = nn.Identity(), ()
        self.named, self._present, self._owner, self._modules, self._tables = {}, {}, {}, [], []

    def _read(self) -> None:
        self._modules = list(self.model.modules())  # kept, so that a new one is not mistaken for a removed one
        self._tables = [table for m in self._modules for table in (m._modules, m._parameters)]
        self._layout = [id(each) for table in self._tables for each in table.values()]
        self._present = {n: p for n, p in self.model.named_parameters() if p.is_floating_point() or p.is_complex()}
        self.named.update(self._present)
        self._sharded = any(map(is_sharded, self._present.values()))  # it swaps its parameters in every pass
        self._flags = []
        self._groups = ()
        # An embedding's weight is one also where a layer that shares it comes first.
        owners = sorted(self._modules, key=lambda module: isinstance(module, EMBEDDINGS))
        owner = {id(p): module for module in owners for p in module.parameters(recurse=False)}
        self._owner.update({name: owner[id(p)] for name, p in self._present.items()})
        for pattern in self._patterns:
            with contextlib.suppress(UnknownName):  # what it names has left the model
                self._declared |= frozen_names(self.model, [pattern])

    def _optimised(self) -> Iterable[nn.Parameter]:
        return (p for o in self._optimizers for group in o.param_groups for p in group["params"])
