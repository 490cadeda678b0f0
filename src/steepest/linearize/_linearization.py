"""A network's tangent features at given parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steepest._check import at_least, boolean, floating, in_range, instance, one_of
from steepest._importing import require
from steepest.errors import InvalidArgument, UnknownName
from steepest.linearize._adjoint import Adjoint, Operator
from steepest.linearize._inputs import Inputs, as_inputs, as_numbers, converted
from steepest.linearize._jacobian.chunks import Jacobian
from steepest.linearize._labels import Labels
from steepest.linearize._spectrum.svd import SVD, decompose
from steepest.linearize._trace.network import Choice, Network, quietly
from steepest.linearize._trajectory import Alignment, Trajectory, decay, learned_at

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Linearization"]

X = Tensor | Sequence[Tensor]

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Linearization(Operator):
    """The Jacobian J of a model's outputs with respect to its trainable parameters, never built unless asked for.

    Row i C + c of the N = n C rows is the gradient of output c of example i, model(x)[i, c] on the whole batch; the P
    columns are the trainable parameters in the order of named_parameters(), each flattened. f(x; theta0 + delta) is
    f(x; theta0) + J delta to first order, so the entries of row (i, c) are the tangent features of example i.

    The linearization holds copies of the model and of x, made here: training the model further does not change it.

    Per layer, J is a product of the layer's input and the cotangent of its output, and is kept as one; kernels, spectra
    and products are contracted layer by layer. Parameters without a rule take a general path, vectorised or by backward
    passes; `paths` says which parameter took which.

    A random probe compares J with plain autograd: on all of these examples, and of batches of other inputs on the first
    two of each kind and one in eight of those that follow. Batches are of the same kind when the model calls the same
    functions on tensors of the same shapes and types. Every batch is compared where values decide which operations run:
    where one is read into Python, examples are moved by an index, or an operation removes their axis. A coupling of
    examples that no function shows, such as one that arithmetic cuts off for some values, may be missed in a batch; a
    warning says so once it is found. To be sure of a batch, make a `Linearization` of it.

    Args:
        model: The model, in the mode to be linearized, usually after eval().
        x: The examples: a tensor whose first dimension counts them, or a tuple of such tensors.
        outputs: None for all; indices into the flattened output; or a function of the model's output.
        max_bytes: The approximate number of bytes that a result with its working memory may occupy, beside the model.
        seed: The seed of one fixed draw, for a model that draws random numbers.
        check: Whether to compare with plain autograd, as described above.
        dtype: The precision, from float16 to float64, that the copy of the model and floating-point inputs, those of
            methods too, are converted to; None leaves both as they are. What the model's own code casts stays cast.

    Raises:
        InvalidArgument: If the model or x cannot be linearised, or not in that precision, with the reason.
        LinearizationMismatch: If a rule and autograd disagree.

    >>> model = nn.Linear(2, 1)
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> Linearization(model, x).features()
    tensor([[1., 2., 1.],
            [3., 4., 1.],
            [5., 6., 1.]])

    Source: Jacot et al., "Neural tangent kernel: convergence and generalization in neural networks" (2018,
    arXiv:1806.07572); Novak et al., "Fast finite width neural tangent kernel" (2022, arXiv:2206.08720).
    """

    def __init__(
        self,
        model: nn.Module,
        x: X,
        outputs: Choice = None,
        *,
        max_bytes: int = 1 << 32,
        seed: int | None = None,
        check: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        max_bytes = at_least("max_bytes", max_bytes, 1, remedy="Pass a number of bytes, such as 1 << 30.")
        boolean("check", check)
        network = Network(model, outputs, seed, None if dtype is None else one_of("dtype", dtype, _REAL))
        with network.quiet():
            inputs = converted(tuple(t.clone() for t in as_inputs("x", x)), dtype)
            self._jacobian = Jacobian(network, inputs, max_bytes, check)
        self._spectrum: SVD | None = None
        self.labels = Labels(network.parameters)

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return len(self._jacobian.inputs[0])

    @property
    def outputs(self) -> int:
        """The number of outputs per example, C."""
        return self._jacobian.outputs

    @property
    def shape(self) -> tuple[int, int]:
        """(n C, P)."""
        return self.examples * self.outputs, self._jacobian.columns

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the outputs and of the features."""
        return self._jacobian.dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self._jacobian.device

    @property
    def paths(self) -> Mapping[str, str]:
        """By parameter: how its columns are computed.

        Rules ("linear", "convolution", ..., joined by "+" where it is used in several ways), the general path ("vmap",
        "backward"), or "zero" where the outputs do not depend on it.
        """
        return dict(self._jacobian.kinds)

    def __repr__(self) -> str:
        general = [name for name, path in self.paths.items() if path in ("vmap", "backward")]
        zero = [name for name, path in self.paths.items() if path == "zero"]
        rows, columns = self.shape
        return (
            f"Linearization({rows} x {columns}, {self.examples} examples x {self.outputs} outputs"
            + (f"; general path: {', '.join(general)}" if general else "")
            + (f"; zero columns: {', '.join(zero)}" if zero else "")
            + ")"
        )

    def parameters(self) -> dict[str, Tensor]:
        """Return the copy's trainable parameters by name, detached, in the order of the columns."""
        return {name: p.detach() for name, p in self._jacobian.network.parameters.items()}

    def inputs(self) -> tuple[Tensor, ...]:
        """Return the examples."""
        return self._jacobian.inputs

    @quietly
    def predictions(self, x: X | None = None) -> Tensor:
        """Return the model's outputs, [n, C], at these or other inputs."""
        return self._jacobian.values(self._inputs(x))

    @quietly
    def features(
        self, x: X | None = None, parameters: str | Sequence[str] | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """Return the feature matrix [n C, P], at these or other inputs, or the columns of some parameters.

        Args:
            x: Inputs; None for the examples of this linearization.
            parameters: The parameters whose columns are returned, in this order; None for all.
            out: A contiguous tensor to write into and to return, in the precision of the outputs. Where matrices of
                gigabytes are computed repeatedly, allocating new memory takes most of the time.

        Raises:
            UnknownName: If there is no such trainable parameter.
            InvalidArgument: If the matrix does not fit into the budget, or `out` is not such a tensor.
        """
        known = self._jacobian.network.parameters
        wanted = known if parameters is None else [parameters] if isinstance(parameters, str) else parameters
        names = list(instance("parameters", wanted, (Sequence, Set, Mapping), "a parameter's name or a list of names"))
        for name in names:
            if instance("parameters", name, str, "a parameter's name or a list of names") not in known:
                raise UnknownName.among("trainable parameter", name, known)
        return self._jacobian.rows(self._inputs(x), names, out).flatten(0, 1)

    @quietly
    def kernel(
        self, x1: X | None = None, x2: X | None = None, *, trace: bool = False, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Return the empirical neural tangent kernel J(x1) J(x2)', [n1 C, n2 C], or [n1, n2] summed over outputs.

        Args:
            x1: Inputs of the rows; None for the examples of this linearization.
            x2: Inputs of the columns; None for x1.
            trace: Whether to return sum over c of K[(i, c), (j, c)] only.
            dtype: The precision of the contraction; None for that of the outputs.

        Raises:
            InvalidArgument: If it does not fit into the budget.
        """
        kind = self.dtype if dtype is None else one_of("dtype", dtype, _REAL)
        boolean("trace", trace)
        return self._jacobian.gram(self._inputs(x1, "x1"), self._inputs(x2, "x2"), kind, trace)

    @quietly
    def svd(self, k: int | None = None) -> SVD:
        """Return the k largest singular triplets of J, all by default.

        Raises:
            InvalidArgument: If k exceeds min(N, P), or no plan fits into the budget.
        """
        most = min(self.shape)
        remedy = (
            f"Ask for k from 1 to {most}: a {self.shape[0]} x {self.shape[1]} Jacobian has no more singular values."
        )
        wanted = most if k is None else at_least("k", k, 1, most=most, remedy=remedy)
        if self._spectrum is None or len(self._spectrum.singular_values) < wanted:
            self._spectrum = decompose(self._jacobian, wanted)
        return self._spectrum.first(wanted)

    @quietly
    def principal_features(self, x: X | None = None, k: int | None = None) -> Tensor:
        """Return the first k principal features J(x) V, [n' C, k], float64, at any inputs.

        At the examples themselves they are U S. They come from the kernel, J(x) J' U / S, without a vector of length P,
        unless the plan has computed V anyway.

        Raises:
            InvalidArgument: If k exceeds the numerical rank.
        """
        svd = self.svd(k)
        if k is None:
            svd = svd.first(max(svd.rank, 1))
        svd.require(len(svd.singular_values))
        inputs = self._inputs(x)
        if inputs is None:
            return svd.left * svd.singular_values
        right = svd.right_exact()
        if right is not None:
            return self._jacobian.rows(inputs).flatten(0, 1).double() @ right
        kernel = self._jacobian.gram(inputs, self._jacobian.inputs, svd.kernel_dtype)
        return kernel.double() @ (svd.left / svd.singular_values)

    @quietly
    def matvec(self, v: Tensor) -> Tensor:
        """Return J v, [N], for v [P]; or [N, m] for [P, m]."""
        columns = self._columns("v", v, self.shape[1], "P")
        found = self._jacobian.product(columns)
        return found[:, 0] if v.ndim == 1 else found

    @quietly
    def rmatvec(self, u: Tensor) -> Tensor:
        """Return J' u, [P], for u [N]; or [P, m] for [N, m]."""
        columns = self._columns("u", u, self.shape[0], "N")
        found = self._jacobian.transposed_product(columns)
        return found[:, 0] if u.ndim == 1 else found

    def __matmul__(self, v: Tensor) -> Tensor:
        return self.matvec(v)

    def adjoint(self) -> Adjoint[Linearization]:
        """Return J', which multiplies with @ as well."""
        return Adjoint(self)

    def to_scipy(self) -> LinearOperator:
        """Return J as a scipy LinearOperator, whose arrays live on the CPU."""
        require("to_scipy", "scipy", extra="linearize")
        from scipy.sparse.linalg import LinearOperator

        def tensor(x: Any) -> Tensor:
            return torch.as_tensor(x, dtype=self.dtype, device=self.device)

        full = self.dtype in (torch.float32, torch.float64, torch.float16)
        shown = self.dtype if full else torch.float32  # numpy has no bfloat16

        def array(x: Tensor) -> Any:
            return x.to(shown).cpu().numpy()

        operator: Any = LinearOperator
        return operator(
            self.shape,
            matvec=lambda v: array(self.matvec(tensor(v).flatten())),
            rmatvec=lambda u: array(self.rmatvec(tensor(u).flatten())),
            matmat=lambda v: array(self.matvec(tensor(v))),
            rmatmat=lambda u: array(self.rmatvec(tensor(u))),
            dtype=str(shown).removeprefix("torch."),
        )

    @quietly
    def trajectory(
        self,
        t: Tensor | Sequence[float],
        lr: float | None = None,
        *,
        y: Tensor,
        x: X | None = None,
        k: int | None = None,
        reduction: str = "mean",
    ) -> Trajectory:
        """Return the linearised model's path under gradient flow (lr None) or gradient descent.

        The loss is that of torch.nn.functional.mse_loss, so lr is the learning rate of torch.optim.SGD.

        Args:
            t: Times of gradient flow, or steps of gradient descent, >= 0.
            lr: The learning rate of gradient descent, > 0.
            y: The targets at the examples, n C numbers of any shape.
            x: The inputs of the predictions; None for the examples.
            k: The number of directions, those of the largest singular values; None for all above the threshold.
            reduction: "mean" or "sum".

        Raises:
            InvalidArgument: If an argument is outside its range.
        """
        one_of("reduction", reduction, ("mean", "sum"))
        times = as_numbers(t, self.device)
        if times is None or not len(times) or not bool((times >= 0).all()):
            raise InvalidArgument("t must be finite numbers >= 0", got=t, remedy="Pass a list of times or steps.")
        if lr is not None:
            lr = in_range("lr", lr, "(0, inf)", remedy="Leave lr out for gradient flow.")
            if not bool((times == times.round()).all()):
                raise InvalidArgument(
                    "t must be whole steps of gradient descent", got=t, remedy="Leave lr out for gradient flow."
                )
        targets = self._targets(y)
        svd = self.svd(k)
        svd = svd.first(max(1, min(svd.rank, len(svd.singular_values)))) if k is None else svd
        svd.require(len(svd.singular_values))
        start = self.predictions().double().flatten()
        inner = svd.left.T @ (start - targets)
        rates = (2 / len(targets) if reduction == "mean" else 2) * svd.singular_values**2
        left_over = decay(times, rates, lr)
        inputs = self._inputs(x)
        changes = (left_over - 1) * inner
        if inputs is None:
            predictions = start + changes @ svd.left.T
        else:
            features = self.principal_features(x, len(svd.singular_values))
            predictions = self.predictions(x).double().flatten() + (changes / svd.singular_values) @ features.T
        return Trajectory(
            times=times,
            predictions=predictions.unflatten(1, (-1, self.outputs)),
            residuals=left_over * inner,
            singular_values=svd.singular_values,
            learned_at=learned_at(rates, lr),
            unlearnable=float((start - targets - svd.left @ inner).norm()),
            largest_lr=2 / float(rates[0]) if float(rates[0]) > 0 else math.inf,
        )

    def alignment(self, y: Tensor) -> Alignment:
        """Return the share of the target y, n C numbers, in each principal direction, up to the rank."""
        targets = self._targets(y)
        size = float(targets.square().sum())
        if size == 0:
            raise InvalidArgument("y must not be zero", got="all zeros", remedy="Pass the labels.")
        svd = self.svd()
        svd = svd.first(max(svd.rank, 1))  # beyond the rank, left vectors are arbitrary
        shares = (svd.left.T @ targets).square() / size
        squares = svd.singular_values**2
        norm = float(squares.norm())
        return Alignment(float(squares @ shares) / norm if norm else 0.0, shares, svd.singular_values)

    def effective_rank(self, ridge: float) -> float:
        """Return the degrees of freedom of ridge regression on the features, sum of s_k^2 / (s_k^2 + ridge).

        Args:
            ridge: > 0, in the units of the kernel.
        """
        ridge = in_range("ridge", ridge, "(0, inf)", remedy="Pass for example 1e-3 times the largest s^2.")
        squares = self.svd().singular_values ** 2
        return float((squares / (squares + ridge)).sum())

    def _inputs(self, x: X | None, name: str = "x") -> Inputs | None:
        own = self._jacobian.inputs
        if x is None:
            return None
        inputs = own if x is own else converted(as_inputs(name, x), self._jacobian.network.dtype)
        if len(inputs) != len(own):
            raise InvalidArgument(
                f"{name} must be {len(own)} inputs", got=len(inputs), remedy="Pass several inputs as a tuple."
            )
        return inputs

    def _targets(self, y: Tensor) -> Tensor:
        targets = as_numbers(y, self.device)
        if targets is None or len(targets) != self.shape[0]:
            raise InvalidArgument(
                f"y must be a finite number for each of the {self.examples} x {self.outputs} outputs",
                got=y if targets is None else f"{len(targets)} numbers",
                remedy="Pass classes as one-hot vectors.",
            )
        return targets

    def _columns(self, argument: str, v: Tensor, length: int, name: str) -> Tensor:
        if floating(argument, v).ndim not in (1, 2) or len(v) != length:
            raise InvalidArgument(
                f"{argument} must have length {name} = {length}, or be a matrix with that many rows",
                got=tuple(v.shape),
                remedy="Columns are in the order of labels, rows in that of examples and outputs.",
            )
        return (v[:, None] if v.ndim == 1 else v).detach().to(device=self.device, dtype=self.dtype)
