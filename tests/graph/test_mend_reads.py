"""What a forward pass reads of its modules, and that trials which could not differ are not run."""

from collections import Counter
from copy import copy

import torch
from torch import Tensor, nn

from pomona.graph.mend_reads import reads, was_read
from pomona.graph.mend_slots import Group, Slot
from pomona.graph.mend_trial import Trial


class Widths(nn.Module):
    """Reads `width`, reads `places` only where `width` fits, never reads `unused`."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.places, self.unused = 3, 1, 7
        self.passes = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(2, 8) -> rows of `width`, rolled by `places`."""
        rolled: Tensor = self.passes(x.reshape(-1, self.width).roll(self.places, 0))
        return rolled


def test_what_was_read_is_known_and_what_was_not_is_not() -> None:
    net = Widths()
    with reads() as found:
        net(torch.ones(2, 12))
    assert was_read(found, net, "width") and was_read(found, net, "places")
    assert not was_read(found, net, "unused") and not was_read(found, net.passes, "width")
    assert was_read(found, net, "config.width")  # a number of an object that is held may be read by way of anything
    assert "__getattribute__" not in vars(nn.Module)


def test_code_that_takes_all_attributes_at_once_read_every_one_of_them() -> None:
    net = Widths()
    with reads() as found:
        dict(vars(net))
    assert was_read(found, net, "unused")
    with reads() as found:
        copy(net)
    assert was_read(found, net, "unused")


def test_a_trial_runs_only_what_could_differ_from_an_earlier_run() -> None:
    twin, x = Widths(), torch.arange(16.0).reshape(2, 8)
    ran: list[tuple[int, int]] = []
    twin.passes.register_forward_pre_hook(lambda *_: ran.append((twin.width, twin.places)))
    slots = {"unused": (7, 6, 5, 4), "places": (1, 2, 3), "width": (3, 2, 4)}
    questions = [Group("", [Slot("", name, None, options)]) for name, options in slots.items()]
    trial = Trial(twin.double(), [x.double().reshape(-1, 4).roll(3, 0)], (x,), {})
    assert trial.resolve(questions) is None
    assert (twin.width, twin.places) == (4, 3)
    assert max(Counter(ran).values()) == 2  # once on shapes, and once more on numbers; no combination again
