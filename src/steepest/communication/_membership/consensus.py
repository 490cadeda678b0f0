"""How the members of one view agree on the next: single-decree Paxos, without sockets and clocks.

A slot is the succession of one view. Its members M vote; exactly one successor is ever chosen, whatever messages are
lost, late or repeated, and whoever dies. The usual majority is widened in one way: proven deaths. A proposer fixes the
set D of the deaths that are proven to it when it starts a ballot, sends it with the ballot, and may go on with

    more than |M| / 2 votes,   or   the votes of all of M - D, however few.

Why two ballots b < c cannot choose differently. If the voters of b and those who promised c have a common member, the
usual argument holds: it voted in b before it promised c, and reports that vote. If they have none, at least one of the
two quorums is "all of M - D". Say it is c's: then all voters of b are in D, dead before c began, b's proposer among
them (a proposer votes first of all). Nobody acts on b's choice but those who have heard of it. A living member who has
heard reports it when it promises c; after that promise it knows who is dead and believes none of their messages. Say it
is b's: then all who promised c were dead before b began, c's proposer among them; its messages still under way are
ignored, as everybody who voted in b knows that it is dead. Votes that were given before a death was proven never count
as "all": D belongs to the ballot.

Who joins is no member of M and may know a choice that no living member of M knows. So a view may take in somebody only
if it contains all of M - D, and a new member counts only once all of the view have met: see `rules.py`.

Source: Lamport, "Paxos Made Simple" (2001).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Ballot", "Chosen", "Consensus", "Letter", "Prepare", "Promise", "Propose", "Refuse", "Vote"]

Ballot = tuple[int, int]
"""The round and the proposer's number: ordered, and never the same for two proposers."""

NEVER: Ballot = (-1, -1)


@dataclass(frozen=True)
class Prepare:
    """First question of a ballot: will you vote in none earlier?"""

    ballot: Ballot
    dead: tuple[int, ...]


@dataclass(frozen=True)
class Promise:
    """Its answer, with the last vote."""

    ballot: Ballot
    voted: Ballot
    value: Any


@dataclass(frozen=True)
class Propose:
    """Second question: do you vote for this?"""

    ballot: Ballot
    value: Any


@dataclass(frozen=True)
class Vote:
    """Its answer."""

    ballot: Ballot


@dataclass(frozen=True)
class Refuse:
    """The answer to a ballot that comes too late: the one that was promised."""

    ballot: Ballot
    promised: Ballot


@dataclass(frozen=True)
class Chosen:
    """The choice."""

    value: Any


Message = Prepare | Promise | Propose | Vote | Refuse | Chosen
Letter = tuple[int, Message]
"""The number of a member, and what is said to it."""


@dataclass
class _Proposing:
    ballot: Ballot
    value: Any
    dead: frozenset[int]
    promises: dict[int, Promise] = field(default_factory=dict[int, Promise])
    votes: set[int] = field(default_factory=set[int])
    asks_for_votes: bool = False


class Consensus:
    """One member's part in choosing the successor of a view.

    Args:
        me: The number of this member.
        members: The numbers of all members of the view, `me` among them.
    """

    def __init__(self, me: int, members: Iterable[int]) -> None:
        self.me, self.members = me, frozenset(members)
        self.chosen: Any = None
        self._promised = NEVER
        self._voted: tuple[Ballot, Any] = (NEVER, None)
        self._dead: frozenset[int] = frozenset()
        self._seen = 0
        self._mine: _Proposing | None = None

    def propose(self, value: Any, dead: Iterable[int]) -> list[Letter]:
        """Start a ballot, later than all that were seen, for `value`; `dead` are those whose death is proven."""
        if self.chosen is not None:
            return []
        self._seen += 1
        self._dead |= frozenset(dead) & self.members - {self.me}
        mine = self._mine = _Proposing((self._seen, self.me), value, self._dead)
        return self._to_all(Prepare(mine.ballot, tuple(sorted(mine.dead))))

    def receive(self, sender: int, message: Message) -> list[Letter]:
        """Return what is to be said in answer to a message of another member."""
        if sender in self._dead or sender not in self.members:
            return []
        if not isinstance(message, Chosen):
            self._seen = max(self._seen, message.ballot[0])
        return self._handle(sender, message)

    def believes(self, sender: int) -> bool:
        """Return whether what somebody says of a choice counts: not if a ballot that was promised counts it as dead."""
        return sender not in self._dead

    def learn(self, sender: int, value: Any) -> None:
        """Take what somebody says was chosen."""
        if self.believes(sender) and self.chosen is None:
            self.chosen = value

    def _handle(self, sender: int, message: Message) -> list[Letter]:
        match message:
            case Prepare():
                return self._prepare(sender, message)
            case Promise():
                return self._promise(sender, message)
            case Propose():
                return self._vote(sender, message)
            case Vote():
                return self._count(sender, message)
            case Refuse():
                self._seen = max(self._seen, message.promised[0])
            case Chosen():
                self.learn(sender, message.value)
        return []

    def _prepare(self, sender: int, message: Prepare) -> list[Letter]:
        if self.chosen is not None:
            return self._answer(sender, Chosen(self.chosen))
        if self.me in message.dead:
            return []
        if message.ballot < self._promised:
            return self._answer(sender, Refuse(message.ballot, self._promised))
        self._promised = message.ballot
        self._dead |= frozenset(message.dead)
        return self._say(sender, Promise(message.ballot, *self._voted))

    def _promise(self, sender: int, message: Promise) -> list[Letter]:
        mine = self._mine
        if mine is None or message.ballot != mine.ballot or mine.asks_for_votes or self.chosen is not None:
            return []
        mine.promises[sender] = message
        if not self._is_quorum(mine.promises.keys(), mine.dead):
            return []
        mine.asks_for_votes = True
        last = max(mine.promises.values(), key=lambda promise: promise.voted)
        if last.voted != NEVER:
            mine.value = last.value
        return self._to_all(Propose(mine.ballot, mine.value))

    def _vote(self, sender: int, message: Propose) -> list[Letter]:
        if self.chosen is not None:
            return self._answer(sender, Chosen(self.chosen))
        if message.ballot < self._promised:
            return self._answer(sender, Refuse(message.ballot, self._promised))
        self._promised = message.ballot
        self._voted = (message.ballot, message.value)
        return self._say(sender, Vote(message.ballot))

    def _count(self, sender: int, message: Vote) -> list[Letter]:
        mine = self._mine
        if mine is None or message.ballot != mine.ballot or self.chosen is not None:
            return []
        mine.votes.add(sender)
        if not self._is_quorum(mine.votes, mine.dead):
            return []
        self.chosen = mine.value
        return [(member, Chosen(mine.value)) for member in sorted(self.members - mine.dead - {self.me})]

    def _is_quorum(self, voters: Iterable[int], dead: frozenset[int]) -> bool:
        living = self.members - dead
        voting = frozenset(voters) & living
        return 2 * len(voting) > len(self.members) or voting == living

    def _to_all(self, message: Message) -> list[Letter]:
        """Say something to oneself first: a proposer is the first to promise and to vote."""
        letters = self._handle(self.me, message)
        dead = self._mine.dead if self._mine else self._dead
        others = [(member, message) for member in sorted(self.members - dead - {self.me})]
        return [*others, *letters]

    def _answer(self, to: int, message: Message) -> list[Letter]:
        """Answer another member; a proposer knows by itself that it comes too late."""
        return [] if to == self.me else [(to, message)]

    def _say(self, to: int, message: Message) -> list[Letter]:
        return self._handle(self.me, message) if to == self.me else [(to, message)]
