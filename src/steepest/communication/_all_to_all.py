"""All-to-all: every worker sends all of its parameters to every other worker."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steepest.communication._cost import Cost, checked_size
from steepest.communication._link import Link, Pending, pieces
from steepest.communication._scheme import Scheme, usable_scale

__all__ = ["AllToAll"]

PIECE_BYTES = 1 << 20
AHEAD = 2


@dataclass(frozen=True)
class AllToAll(Scheme):
    """All-to-all: every worker sends its p parameters to every other worker, and adds what it receives.

    All workers send n(n-1) messages of p parameters. Every worker adds in the order of ranks, so that all hold the
    same bits.

    >>> AllToAll().cost(workers=4, parameters=1000)
    Cost(messages=12, parameters_per_message=1000.0, bytes=48000)
    """

    def cost(self, workers: int, parameters: int, dtype: torch.dtype = torch.float32) -> Cost:
        n, p, itemsize = checked_size(workers, parameters, dtype)
        return Cost(n * (n - 1), float(p), n * (n - 1) * p * itemsize)

    def sum_(self, flat: Tensor, scale: float, link: Link) -> None:
        scale = usable_scale(flat, scale)
        if link.size == 1:
            flat.mul_(scale)
            return
        # Each worker begins with the next one, so that not all send to one at once.
        others = [(link.rank + step) % link.size for step in range(1, link.size)]
        length = link.piece_length(flat, PIECE_BYTES)
        parts = pieces(0, flat.numel(), length)
        ahead = min(AHEAD if link.ahead else 1, len(parts))
        memory = {
            (rank, slot): link.scratch(f"all-to-all {rank} {slot}", flat, min(length, flat.numel()))
            for rank in others
            for slot in range(ahead)
        }
        for rank in others:
            link.count(rank, flat.numel() * flat.element_size())

        def start(index: int) -> tuple[dict[int, Pending], list[Pending]]:
            low, high = parts[index]
            part = flat[low:high].mul_(scale)
            arriving = {rank: link.receive_piece(memory[rank, index % ahead][: high - low], rank) for rank in others}
            return arriving, [link.send_piece(part, rank) for rank in others]

        under_way = [start(index) for index in range(ahead)]
        for index, (low, high) in enumerate(parts):
            arriving, sends = under_way[index]
            part, terms = flat[low:high], {}
            for rank in others:
                arriving[rank].wait()
                terms[rank] = memory[rank, index % ahead][: high - low]
            terms[link.rank] = part
            # Plain additions in the order of ranks. The memory of rank 0's part (or of rank 1's, on rank 0) holds
            # the sum, as the own part may still be on its way to the others.
            total = torch.add(terms[0], terms[1], out=terms[0 if link.rank else 1])
            for rank in range(2, link.size):
                total.add_(terms[rank])
            for pending in sends:
                pending.wait()
            part.copy_(total)
            if index + ahead < len(parts):
                under_way.append(start(index + ahead))
