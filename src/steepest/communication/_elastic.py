"""A group of workers that goes on when some die, fall silent or become slow."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
from torch import Tensor

from steepest import _check
from steepest.communication._membership import rules
from steepest.communication._membership.connections import Connections
from steepest.communication._membership.deadlines import Deadlines
from steepest.communication._membership.events import GroupEvent
from steepest.communication._membership.gradients import NONE, Gradients
from steepest.communication._membership.membership import Address, Membership, View
from steepest.communication._membership.node import Node
from steepest.communication._membership.worker import State, Worker
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._scheme import Scheme
from steepest.communication._traffic import next_step
from steepest.errors import InvalidArgument, MembershipChanged

__all__ = ["ElasticGroup", "State"]


class ElasticGroup:
    """One worker's part in a group that goes on when workers die, fall silent or become slow, and takes in new ones.

    Every step is done by the members of one view, all of them. When a member is gone, the others choose the next view
    (by consensus, so that two halves never go on as if both were the whole), take up the newest step that any of them
    has completed, and repeat what was under way. A death is proven where the process was seen to end, on the same host;
    then the survivors go on, however few. After mere silence only a majority of the last membership goes on; a minority
    waits and rejoins. A worker that is late or persistently slow is left out, and rejoins with a copy of the state when
    it is fast again. There is no coordinator whose death ends the job.

    Args:
        worker: The number of this process, for life: a replacement has a new one.
        scheme: How gradients are exchanged.
        role: "worker", or "server" for a separate parameter server.
        contact: The address at which other hosts reach this process; by default `listen`.
        listen: The address of the network interface on which it listens.
        deadlines: How long it waits for what.
        observe: Called with each event, in the thread that uses the group.

    Raises:
        InvalidArgument: An argument is invalid.

    Examples:
        >>> from steepest.communication import ElasticGroup, Ring
        >>> group = ElasticGroup(0, Ring())
        >>> group.form([group.address])
        >>> group.view.size
        1
        >>> group.close()
    """

    def __init__(
        self,
        worker: int,
        scheme: Scheme,
        *,
        role: Literal["worker", "server"] = "worker",
        contact: str | None = None,
        listen: str = "127.0.0.1",
        deadlines: Deadlines | None = None,
        observe: Callable[[GroupEvent], object] | None = None,
    ) -> None:
        number = _check.at_least("worker", worker, 0)
        self._scheme = _check.instance("scheme", scheme, Scheme, "a scheme", remedy="Try Ring().")
        is_server = _check.one_of("role", role, ("worker", "server")) == "server"
        _check.instance("listen", listen, str, "an address", remedy='Try "127.0.0.1".')
        place = listen if contact is None else _check.instance("contact", contact, str, "an address")
        limits = Deadlines() if deadlines is None else deadlines
        _check.instance("deadlines", limits, Deadlines, "Deadlines")
        if observe is not None:
            _check.function("observe", observe)
        if is_server and not isinstance(scheme, ParameterServer):
            raise InvalidArgument(
                'role must be "worker" for a scheme without a server', got=scheme, remedy="Pass ParameterServer()."
            )
        try:
            self._node = Node(number, is_server, listen, place, limits, observe)
        except (OSError, RuntimeError, ValueError) as error:
            remedy = f"The system says: {error}."
            raise InvalidArgument("listen must be an address of this machine", got=listen, remedy=remedy) from error
        self._known, self._member = self._node.known, self._node.member
        self._worker = Worker(self._node)
        self._agreed: tuple[View, Gradients] | None = None
        self._began = self._computed = self._busy = 0.0

    @property
    def address(self) -> Address:
        """Where this worker is reached: what the others need to know of it."""
        return self._node.address

    @property
    def view(self) -> View:
        """The latest view in which this worker took part, or takes part."""
        if self._worker.view is None:
            raise InvalidArgument("the group must be formed first", remedy="Call form, or join and begin.")
        return self._worker.view

    def form(self, members: Sequence[Address]) -> None:
        """Be a founder of the group: all founders call it, with the same addresses.

        Args:
            members: The addresses of all founders, this worker's among them.

        Raises:
            InvalidArgument: The addresses are not those of a group that has this worker in it, or there is no server.
        """
        founders = self._checked(members)
        if self.address not in founders:
            raise InvalidArgument("members must hold the address of this worker", remedy="Add its .address.")
        separate = any(member.server for member in founders)
        rank = self._scheme.server if isinstance(self._scheme, ParameterServer) else None
        workers = sum(not member.server for member in founders)
        if isinstance(self._scheme, ParameterServer) and not separate and (rank is None or rank >= workers):
            raise InvalidArgument(
                "members must hold the server",
                got=self._scheme,
                remedy='Make one group with role="server", or pass the rank of a worker to ParameterServer.',
            )
        with self._node.lock:
            first = Membership.founding(founders, rank)
            self._member.found(first, time.monotonic())
            self._worker.found(first)
            self._member.note("formed", detail=f"{workers} workers")
        self._node.connect()
        self._enter("busy")

    def join(self, members: Sequence[Address]) -> None:
        """Ask a group to take this worker in; `begin` waits until it does.

        Args:
            members: The addresses of some members, of which one must be alive.

        Raises:
            InvalidArgument: There is no address.
        """
        contacts = self._checked(members)
        with self._node.lock:
            self._member.meet(contacts, time.monotonic())
        self._worker.come()

    def begin(self, state: State) -> int:
        """Begin a step: carry out what is pending, and return the number of the step to do.

        Args:
            state: The state of this worker, which is replaced by another worker's if that one is ahead.

        Returns:
            `state.step`, after that.

        Raises:
            GroupLost: The group could not go on within the deadline `give_up`, or has ended without this worker.
        """
        _check_state(state)
        self._check_started()
        self._worker.state = state
        while not self._worker.prepare():
            pass
        self._enter("computing")
        self._began, self._busy = time.monotonic(), 0.0
        return state.step

    def average_(self, tensors: Sequence[Tensor], *, weight: float) -> None:
        """Replace gradients by the weighted sum over all workers, in place: sum_i weight_i × gradient_i.

        Args:
            tensors: Floating-point tensors, of the same shapes and dtypes on all workers.
            weight: This worker's share of the global batch: its number of examples over that of all workers.

        Raises:
            MembershipChanged: The gradients are as they were; call `begin`, and repeat the step that it returns.
            InvalidArgument: An argument is invalid, or the workers' gradients differ in shapes or dtypes.
        """
        share = _check.in_range("weight", weight, "[0, 1]")
        _check.instance("tensors", tensors, (list, tuple), "a list of tensors")
        listed = [_check.floating("tensors", tensor) for tensor in tensors]
        self._check_started()
        self._computed = time.monotonic() - self._began - self._busy
        if self._worker.absence is not None:
            with self._node.lock:
                self._worker.absence.judge(self._computed, rules.typical(self._known))
            raise MembershipChanged("this worker is left out of the group", remedy="Call begin.")
        next_step(self._known.step)
        with torch.no_grad():
            failed = self._agree(Gradients.signature(listed))
            if not failed and self._agreed is not None:
                gradients = self._agreed[1]
                gradients.take(listed)
                _, failed = self._node.exchange(lambda connections: self._sum(connections, gradients, share), "sum")
                if not failed:
                    gradients.give(listed)
        if failed:
            self._agreed = None
            self._worker.interrupted(failed)
            raise MembershipChanged("the step must be repeated", got=failed, remedy="Call begin.")
        self._enter("computing")

    def completed(self, step: int) -> None:
        """Say that this worker has completed a step, with the optimizer's update.

        Args:
            step: The number that `begin` has returned.
        """
        number = _check.at_least("step", step, 0)
        with self._node.lock:
            self._known.step = number + 1
            self._known.clock.add(self._computed, time.monotonic() - self._began - self._busy)
        self._worker.completed()

    def busy(self, what: str) -> AbstractContextManager[None]:
        """Do something that is no step: `with group.busy("validation"):`. It does not count as slowness.

        Args:
            what: What it is, for the observer.

        Returns:
            A context manager.
        """
        return self._being_busy(_check.instance("what", what, str, "a string"))

    @contextmanager
    def _being_busy(self, what: str) -> Generator[None, None, None]:
        began = time.monotonic()
        with self._node.lock:
            self._member.note("busy", self.address.worker, what)
        self._enter("busy")
        try:
            yield
        finally:
            self._enter("computing")
            self._busy += time.monotonic() - began

    def serve(self) -> None:
        """Be the separate server until all workers have left.

        Raises:
            GroupLost: The group could not go on within the deadline `give_up`.
        """
        if not self.address.server:
            raise InvalidArgument('serve is for a group with role="server"', remedy="Call begin and average_ instead.")
        self._check_started()
        while self._worker.has_workers():
            if self._worker.prepare():
                self._serve_step()
        self._node.report()

    def leave(self) -> None:
        """Leave the group when the work is done: wait until the other workers need nothing more, and end.

        Raises:
            GroupLost: The others did not come so far within the deadline `give_up`.
        """
        if self._worker.absence is None and self._known.is_in:
            self._enter("busy")
            while not self._node.wait(self._is_done, 0.02):
                if self._is_needed():
                    self._worker.prepare(takes_in=False)
                    self._enter("busy")
                with self._node.lock:
                    self._member.ask()
        self.close()

    def close(self) -> None:
        """End at once, with a farewell: for a worker that cannot go on. It is no error to call it twice."""
        if not self._node.is_closed:
            with self._node.lock:
                self._member.leave()
            self._node.report()
            self._node.close()

    def _check_started(self) -> None:
        if self._node.is_closed or (self._worker.view is None and self._worker.absence is None):
            rule = "the group was left" if self._node.is_closed else "the group must be formed first"
            raise InvalidArgument(rule, remedy="Make a new one." if self._node.is_closed else "Call form or join.")

    def _checked(self, members: Sequence[Address]) -> tuple[Address, ...]:
        if not isinstance(members, (list, tuple)):
            raise InvalidArgument("members must be a list of addresses", got=members, remedy="Pass .address of each.")
        if self._node.is_closed or self._worker.view is not None or self._worker.absence is not None:
            raise InvalidArgument("form or join may be called once", remedy="Make a new ElasticGroup.")
        addresses = tuple(_check.instance("members", one, Address, "addresses") for one in members)
        if not addresses or len({address.worker for address in addresses}) < len(addresses):
            numbers = [address.worker for address in addresses]
            raise InvalidArgument(
                "members must be the addresses of different workers", got=numbers, remedy="Pass each group's .address."
            )
        return addresses

    def _enter(self, phase: Literal["computing", "busy"]) -> None:
        with self._node.lock:
            self._member.enter(phase, time.monotonic())

    def _is_done(self) -> bool:
        """Return whether all others have come as far as this worker."""
        others = [peer for peer in self._known.others if not peer.gone and not peer.address.server]
        return all(peer.status.step >= self._known.step for peer in others)

    def _is_needed(self) -> bool:
        """Return whether somebody waits for the next view, who may need the state of this worker."""
        known = self._known
        with self._node.lock:
            return any(peer.is_recovering(known.number) and not peer.gone for peer in known.others)

    def _agree(self, row: tuple[int, ...]) -> str:
        """Make memory for the gradients of this view, on whose form all must agree; return why that failed, or ""."""
        if self._agreed is not None and self._agreed[0] == self._worker.view:
            return ""
        rows, failed = self._node.exchange(lambda connections: connections.gather(row), "sum")
        if not failed:
            self._agreed = (self.view, Gradients.agreed(rows, self.view.workers))
        return failed

    def _sum(self, connections: Connections, gradients: Gradients, weight: float) -> None:
        scheme = self._present_scheme(connections)
        for flat in gradients.flat.values():
            scheme.sum_(flat, weight, connections.link)

    def _present_scheme(self, connections: Connections) -> Scheme:
        if not isinstance(self._scheme, ParameterServer):
            return self._scheme
        if connections.link.server is not None:
            return ParameterServer()
        view = connections.view
        return ParameterServer(0 if view.server is None else view.workers.index(view.server))

    def _serve_step(self) -> None:
        def serve(connections: Connections, gradients: Gradients) -> None:
            for flat in gradients.flat.values():
                self._present_scheme(connections).serve(flat, connections.link)

        failed = self._agree(NONE)
        if not failed and self._agreed is not None:
            gradients = self._agreed[1]
            _, failed = self._node.exchange(lambda connections: serve(connections, gradients), "sum")
        if failed:
            self._agreed = None
            self._worker.stop()


def _check_state(state: object) -> None:
    try:
        is_state = isinstance(getattr(state, "step", None), int) and all(
            callable(getattr(state, name, None)) for name in ("save", "load")
        )
    except Exception:  # of its own
        is_state = False
    if not is_state:
        raise InvalidArgument("state must have a whole number step, save and load", got=state, remedy="See State.")
