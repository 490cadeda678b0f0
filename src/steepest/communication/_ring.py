"""Ring all-reduce: 2n(n-1) messages of p/n parameters."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.communication._cost import Cost, checked_size, chunk_bounds
from steepest.communication._link import Link, Pending, pieces
from steepest.communication._scheme import Scheme, usable_scale

__all__ = ["Ring"]

LEAST_PIECE, MOST_PIECE = 1 << 21, 1 << 22
"""A chunk travels in pieces, so that one is added while the next arrives; each costs some switches between threads."""

AHEAD = 4


@dataclass(frozen=True)
class Ring(Scheme):
    """Ring all-reduce: every worker sends to the next one only.

    The p parameters are divided into n chunks, whose sizes differ by at most one. In n-1 steps, every worker sends one
    chunk to the next worker, which adds its own part; then each worker holds the sum of one chunk. In n-1 further
    steps, the sums travel around the ring. All workers send 2n(n-1) messages of p/n parameters, each worker 2(n-1)p/n
    parameters, whatever n is.

    Source: P. Patarasuk, X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009.

    >>> Ring().cost(workers=4, parameters=1000).messages
    24
    """

    def cost(self, workers: int, parameters: int, dtype: torch.dtype = torch.float32) -> Cost:
        n, p, itemsize = checked_size(workers, parameters, dtype)
        return Cost(2 * n * (n - 1), p / n, 2 * (n - 1) * p * itemsize)

    def sum_(self, flat: Tensor, scale: float, link: Link) -> None:
        n, rank = link.size, link.rank
        scale = usable_scale(flat, scale)
        if n == 1:
            flat.mul_(scale)
            return
        bounds = chunk_bounds(flat.numel(), n)
        chunk_bytes = bounds[0][1] * flat.element_size()
        length = link.piece_length(flat, min(max(chunk_bytes // 4, LEAST_PIECE), MOST_PIECE))
        parts = [pieces(low, high, length) for low, high in bounds]
        following, previous = (rank + 1) % n, (rank - 1) % n

        def count(chunk: int) -> None:
            low, high = bounds[chunk]
            link.count(following, (high - low) * flat.element_size())

        incoming = [part for step in range(n - 1) for part in parts[(rank - step - 1) % n]]
        slots = [
            link.scratch(f"ring {i}", flat, min(length, bounds[0][1]))
            for i in range(min(AHEAD if link.ahead else 1, len(incoming)))
        ]

        def expect(index: int) -> Pending:
            low, high = incoming[index]
            return link.receive_piece(slots[index % len(slots)][: high - low], previous)

        expected = deque(expect(index) for index in range(len(slots)))
        sends: list[Pending] = []
        count(rank)
        for low, high in parts[rank]:
            sends.append(link.send_piece(flat[low:high].mul_(scale), following))
        # The second half arrives in place. Nothing overwrites a part before its first sum has left this worker: what
        # arrives has been computed from it.
        final = [part for step in range(n - 1) for part in parts[(rank - step) % n]]
        finished = deque(link.receive_piece(flat[low:high], previous, 1) for low, high in final) if link.ahead else None

        position = 0
        for step in range(n - 1):
            chunk, last = (rank - step - 1) % n, step == n - 2
            count(chunk)
            for low, high in parts[chunk]:
                expected.popleft().wait()
                own, arrived = flat[low:high], slots[position % len(slots)][: high - low]
                torch.add(arrived, own, alpha=scale, out=own)
                if position + len(slots) < len(incoming):
                    expected.append(expect(position + len(slots)))
                position += 1
                sends.append(link.send_piece(own, following, 1 if last else 0))
        for step in range(n - 1):
            chunk, last = (rank - step) % n, step == n - 2
            if not last:
                count(chunk)
            for low, high in parts[chunk]:
                part = flat[low:high]
                pending = link.receive_piece(part, previous, 1) if finished is None else finished.popleft()
                pending.wait()
                if not last:
                    sends.append(link.send_piece(part, following, 1))
        for pending in sends:
            pending.wait()
