"""Every class of executions that a few preemptions lead to (bounded.py).

A *preemption* is a switch away from a context that could continue (Musuvathi and Qadeer, PLDI 2007). Most defects need
one or two. What shows nothing new is left out:

- Who has been preempted continues only when something that depends on its next event has happened. Otherwise the
  preemption could have come behind that event: the same class, and no preemption more.
- A context does its next event first. The search goes back to preempt it before that event only if an execution behind
  it has had an event that conflicts with it, and that could have come first (trace.py, `rivals`). If there is none, the
  preemption could have come behind the event, for the same reason. Bounded partial-order reduction (Coons, Musuvathi,
  McKinley, OOPSLA 2013) goes back like that; its conservative places to go back to are here all places where no context
  need be preempted, and a request for a lock that is held counts, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.search.bounded import Bounded, Place, number_of
from cluster.search.trace import NO_CHOICE, Event
from nodes.cpu import Thread


class Preemptions(Bounded):
    """At most so many preemptions.

    Attributes:
        contested: numbers of the events that conflict with an event which could have come first.
    """

    def grown(self) -> None:
        super().grown()
        self.contested: set[int] = set()

    def _options(self, place: Place, candidates: Sequence[Thread], current: Thread | None) -> list[tuple[Thread, int]]:
        awake = [thread for thread in candidates if thread.name not in place.asleep]
        if current is None:
            return [(thread, 0) for thread in self._from(awake, None)]
        place.instead = [((thread.name, NO_CHOICE), 1) for thread in reversed(awake) if thread is not current]
        return [(current, 0)]

    def _is_contested(self, event: Event) -> bool:
        return number_of(event) in self.contested

    def _performed(self, event: Event) -> None:
        self.contested.update([number_of(rival) for rival in self.trace.rivals(event)])

    def _ended(self) -> None:
        for event in self.trace.left() if self.left is None else self.left:
            self._performed(event)
