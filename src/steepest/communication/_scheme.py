"""How workers agree on the mean of their gradients: the interface, and what all schemes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from steepest.communication._agreement import agree, described, refuse
from steepest.communication._buckets import Bucket, buckets_of
from steepest.communication._cost import Cost
from steepest.communication._group import Group, group_of
from steepest.communication._link import Link
from steepest.communication._traffic import averaging
from steepest.errors import SteepestError

__all__ = ["Scheme", "usable_scale"]

T = TypeVar("T", bound="Tensor | Sequence[Tensor]")


class Scheme(ABC):
    """A way for n workers to replace their tensors by the mean of them.

    A subclass implements `cost` and `sum_`, and `serve` where a separate process adds.

    With x_i the tensor of worker i, and e_i its number of examples (1 for a plain mean), every worker gets

        mean = sum_i w_i x_i,   w_i = e_i / sum_j e_j,

    with the same bits on all workers. Each worker scales its own tensor before anything is added, so that nothing
    overflows which the mean does not; payload and partial sums have the dtype of the tensor, as NCCL's have. In every
    entry,

        |result - mean| <= gamma_{n+1} sum_i |w_i x_i| + n eta,   gamma_k = k u / (1 - k u),

    where u is the unit roundoff of the dtype (2^-24 in float32, 2^-11 in float16, 2^-8 in bfloat16) and eta its
    smallest subnormal number.

    Source of the bound: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 4.2.
    """

    def average_(self, tensors: T, *, group: object = None, examples: float | None = None) -> T:
        """Replace tensors by their mean over all workers, in place.

        All workers of the group call it with tensors of the same shapes and dtypes. That is compared first, through
        the group's store, so that a difference raises an error on all workers and hangs none. A list is averaged in
        one bucket for each dtype and device; a single contiguous tensor is not copied.

        Args:
            tensors: A tensor, or a list of tensors, of float16, bfloat16, float32 or float64, of any shape [...].
            group: The workers, as a process group of torch.distributed; by default all.
            examples: How many examples this worker's tensors are a mean over; by default each worker counts alike.

        Returns:
            The same tensors.

        Raises:
            InvalidArgument: An argument is invalid, or the workers' arguments differ.
            CommunicationError: There is no process group, a worker did not arrive, or a connection broke.
        """
        place = group_of(group)
        listed = [tensors] if isinstance(tensors, Tensor) else tensors
        with torch.no_grad():
            try:
                buckets = buckets_of(listed, alone=isinstance(tensors, Tensor))
                link = self._link(place)
                own = described(self, buckets, examples, listed)
            except SteepestError as error:
                refuse(place, {"refused": str(error)})
                raise
            total, share = agree(place, own)
            with averaging(total):
                for bucket in buckets:
                    self._average(bucket, share / total, link, place)
        return tensors

    def _average(self, bucket: Bucket, scale: float, link: Link, place: Group) -> None:
        flat = bucket.gather()
        direct = place.direct(flat.device) if link is place.link else None
        if direct is not None or flat.device.type == "cpu":
            self.sum_(flat, scale, direct or link)
        else:
            staged = flat.cpu()
            self.sum_(staged, scale, link)
            flat.copy_(staged)
        bucket.scatter(flat)

    def _link(self, place: Group) -> Link:
        """Return the connections that this scheme uses in a group."""
        return place.link

    @abstractmethod
    def cost(self, workers: int, parameters: int, dtype: torch.dtype = torch.float32) -> Cost:
        """Return what one averaging sends: messages, parameters per message, and bytes of all messages together.

        Args:
            workers: The number of workers, n >= 1.
            parameters: The number of parameters, p >= 0.
            dtype: The dtype of the parameters.

        Returns:
            The cost of one averaging.

        Raises:
            InvalidArgument: An argument is invalid.
        """

    @abstractmethod
    def sum_(self, flat: Tensor, scale: float, link: Link) -> None:
        """Replace a tensor by the sum of all workers' tensors, each times its own scale, with the same bits on all.

        Nothing is checked, and nothing is agreed on before.

        Args:
            flat: This worker's numbers, contiguous, of shape [p].
            scale: What they are multiplied by before they are added, >= 0.
            link: The connections to the other workers.
        """

    def serve(self, flat: Tensor, link: Link) -> None:
        """Do the part of a separate server in one `sum_` of all workers; most schemes leave nothing to it.

        Args:
            flat: Memory for the sum, contiguous, of shape [p]; its numbers do not count.
            link: The connections to the workers.
        """
        del flat, link


def usable_scale(flat: Tensor, scale: float) -> float:
    """Return the scale; a worker without examples gets zeros first, as 0 times infinity would not be 0."""
    if scale == 0:
        flat.zero_()
        return 1.0
    return scale
