"""A group whose workers were started by torchrun: nobody is replaced in it; after a death, all start again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from steepest.communication import Scheme, View
from steepest.train._distributed.replica import Replica

__all__ = ["FixedGroup"]

_KEPT = 2


class FixedGroup:
    """The interface of `steepest.communication.ElasticGroup`, over the default process group.

    At its first step it continues from the newest complete checkpoint in the folder, if there is one: so torchrun's
    restart of all workers loses only the steps since then.

    Args:
        scheme: How gradients are averaged.
        folder: Where the checkpoints are, the same for all workers.
        saves: The steps after which a checkpoint is written.
        remark: Called with a sentence for the user where it continues from one.
    """

    def __init__(self, scheme: Scheme, folder: Path, saves: frozenset[int], remark: Callable[[str], object]) -> None:
        self._scheme, self._folder, self._saves, self._remark = scheme, folder, saves, remark
        size = dist.get_world_size()
        self.view = View(0, tuple(range(size)), dist.get_rank(), size, None)
        self._replica: Replica | None = None
        self._saved = 0

    def begin(self, replica: Replica) -> int:
        """Return the step to do next; load the newest checkpoint at first."""
        if self._replica is None:
            self._replica = replica
            newest = _newest(self._folder) if self.view.rank == 0 else None
            found = [newest]
            dist.broadcast_object_list(found, src=0)  # all decide alike, whatever their file system shows
            if found[0] is not None:
                replica.load(_read(self._folder / found[0]))
                self._remark(f"Continued after step {replica.step:,} from a checkpoint in {self._folder}.")
            self._saved = replica.step
        elif replica.step in self._saves and replica.step > self._saved:
            self._save(replica)
            self._saved = replica.step
        return replica.step

    def average_(self, tensors: Sequence[Tensor], *, weight: float) -> None:
        """Average gradients over the examples of the whole batch."""
        self._scheme.average_(list(tensors), examples=weight)

    def completed(self, step: int) -> None:
        """Do nothing: a step is lost with those after the checkpoint before it."""

    @contextlib.contextmanager
    def busy(self, what: str) -> Generator[None]:  # noqa: ARG002
        """Do nothing: nobody is left out here."""
        yield

    def _save(self, replica: Replica) -> None:
        place = self._folder / f"step-{replica.step:09d}"
        state = torch.frombuffer(bytearray(replica.save()), dtype=torch.uint8)
        dcp.save({"replica": state}, checkpoint_id=place)
        if self.view.rank == 0:
            for old in sorted(each for each in self._folder.glob("step-*") if _is_complete(each))[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)


def _is_complete(place: Path) -> bool:
    return (place / ".metadata").exists()  # which is written last


def _newest(folder: Path) -> str | None:
    complete = sorted(each.name for each in folder.glob("step-*") if _is_complete(each))
    return complete[-1] if complete else None


def _read(place: Path) -> bytes:
    size = dcp.FileSystemReader(place).read_metadata().state_dict_metadata["replica"].size  # pyright: ignore
    state = {"replica": torch.empty(size, dtype=torch.uint8)}
    dcp.load(state, checkpoint_id=place)
    return state["replica"].numpy().tobytes()
