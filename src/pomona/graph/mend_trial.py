"""Which integers are right is found by running the model: guesses, the module that fails first among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from math import inf
from typing import Any, TypeAlias

from torch import Tensor, nn

from pomona.graph.mend_reads import Reads, reads, was_read
from pomona.graph.mend_scale import Fold
from pomona.graph.mend_slots import Group, role
from pomona.graph.precise import precisely, widened
from pomona.graph.proof import TOLERANCE, difference
from pomona.graph.reference import tensors_of
from pomona.graph.rehearsal import Rehearsal, unchanged

TRIALS = 60
Question: TypeAlias = Group | Fold


class Trial:
    """Forward passes of a float64 twin of the small model, each with other integers."""

    def __init__(
        self,
        twin: nn.Module,
        expected: Sequence[Tensor],
        args: Any,
        kwargs: Mapping[str, Any],
        beside: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.beside = beside or nullcontext()  # what goes on during every forward pass
        self.twin, self.expected, self.args, self.kwargs = twin, list(expected), args, kwargs
        self.names = {id(module): name for name, module in twin.named_modules()}
        self.left = 0
        self.answer: list[Tensor] | None = None  # of the last forward pass that was right
        self.read: Reads = set()  # by the last forward pass
        self.questions: Sequence[Question] = ()
        self.known: list[_Known] = []

    @cached_property
    def rehearsal(self) -> Rehearsal:
        """Of the twin; made where it is needed."""
        return Rehearsal(self.twin, self.args, self.kwargs)

    def resolve(self, questions: Sequence[Question], trials: int = TRIALS) -> str | None:
        """Answer the questions, those of the module that fails first; None once the outputs are right, or what is wrong."""
        by_role: dict[str, list[Question]] = {}
        for group in questions:
            by_role.setdefault(group.role, []).append(group)
        self.left, self.questions, self.known = trials, questions, []
        best = self.asked()
        while not best.right:
            found = self.better(best, sorted(by_role, key=lambda r: _distance(r, best.where)), by_role)
            if found is None:
                return best.failure
            best = found
        return None

    def better(self, best: _Result, roles: Sequence[str], by_role: Mapping[str, Sequence[Question]]) -> _Result | None:
        """The first other combination of the integers of one role that gets further; None where none does."""
        for together in (by_role[name] for name in roles):
            now = [group.chosen for group in together]
            for combination in _others(now, [group.options for group in together]):
                if self.left <= 0:
                    break
                self.choose(together, combination)
                result = self.asked()
                if result.reached > best.reached:
                    return result
            self.choose(together, now)
        return self.at_once(best, [group for together in by_role.values() for group in together]) if best.ran else None

    def at_once(self, best: _Result, questions: Sequence[Question]) -> _Result | None:
        """The first answers that are right, of those that change two questions of any modules, where neither alone helps."""
        now = [group.chosen for group in questions]
        for combination in _others(now, [group.options for group in questions], changes=(2,)):
            if self.left <= 0:
                break
            self.choose(questions, combination)
            if (result := self.asked()).right:
                return result
        self.choose(questions, now)
        return None

    def choose(self, together: Sequence[Question], combination: Sequence[int]) -> None:
        """Write a combination of choices into the twin."""
        for group, option in zip(together, combination, strict=True):
            group.choose(option, self.twin)

    def asked(self) -> _Result:
        """A forward pass with the present choices; one that differs in nothing which an earlier one read is not run again."""
        now = [question.chosen for question in self.questions]
        for known in self.known:
            if all(now[number] == choice for number, choice in known.read.items()):
                self.left -= 1
                return known.result
        # The first guess mostly is right: numbers at once, and shapes only where these stop short.
        result = self.run() if self.known or not (straight := self.run(rehearsed=False)).ran else straight
        read = {number: now[number] for number, question in enumerate(self.questions) if self.mattered(question)}
        self.known.append(_Known(read, result))
        return result

    def mattered(self, question: Question) -> bool:
        """Whether the last forward pass read what a question is about; weights it may always have read."""
        if isinstance(question, Fold):
            return True
        return any(was_read(self.read, self.twin.get_submodule(slot.module), slot.attribute) for slot in question.slots)

    def run(self, rehearsed: bool = True) -> _Result:
        """One forward pass: first of shapes alone, which takes no memory whatever the code asks for, then of numbers."""
        self.left -= rehearsed
        with precisely() as counter, reads() as self.read:
            # The model's own code runs with sizes that may not fit; whatever it raises means that this guess is wrong.
            try:
                if rehearsed:
                    with self.beside:
                        shapes = self.rehearsal.shapes()
                    if shapes is not None and shapes != [x.shape for x in self.expected]:
                        return _Result((inf, -inf), f"its output has other shapes: {shapes}", "")
                with unchanged(self.twin), self.beside:
                    got = tensors_of(self.twin(*widened(self.args), **widened(dict(self.kwargs))))
            except Exception as raised:
                text = f"{type(raised).__name__}: {' '.join(str(raised).split())[:200]}"
                return _Result((float(counter.ops), 0.0), text, self.running(raised))
        error = difference(got, self.expected)
        self.answer = got if error <= TOLERANCE else self.answer
        return _Result((inf, -error if error == error else -inf), f"its output differs by {error:.1e}", "", error <= TOLERANCE)

    def running(self, error: Exception) -> str:
        """The innermost module whose forward was running when an error arose."""
        found, trace = "", error.__traceback__
        while trace is not None:
            found = self.names.get(id(trace.tb_frame.f_locals.get("self")), found)
            trace = trace.tb_next
        return found


def _distance(place: str, failed: str) -> int:
    """How many modules lie between a module (or those of a role) and the one inside it that failed; many for any other."""
    inside = [path.removeprefix(place) for path in (failed, role(failed)) if f"{path}.".startswith(f"{place}.")]
    return min((rest.count(".") for rest in inside), default=len(failed))


def _others(now: Sequence[int], options: Sequence[int], changes: Sequence[int] = ()) -> Iterator[list[int]]:
    """Every other combination of choices, or those with so many changes; those that change least first."""
    for count in changes or range(1, len(now) + 1):
        for places in combinations(range(len(now)), count):
            for choice in product(*([c for c in range(options[p]) if c != now[p]] for p in places)):
                yield [dict(zip(places, choice, strict=True)).get(p, c) for p, c in enumerate(now)]


@dataclass(frozen=True)
class _Result:
    """How far a forward pass came (operations, then minus the error), what went wrong and where."""

    reached: tuple[float, float]
    failure: str
    where: str
    right: bool = False

    @property
    def ran(self) -> bool:
        """Whether it came to the end."""
        return self.reached[0] == inf


@dataclass(frozen=True)
class _Known:
    """A forward pass that was run: the choices that it read, by the number of the question, and what came of it."""

    read: Mapping[int, int]
    result: _Result
