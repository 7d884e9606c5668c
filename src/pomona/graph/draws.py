"""Random numbers in a forward pass: a model that draws them is one function only together with what was drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx
from torch.export import ExportedProgram

from pomona.graph.nodes import arguments, every_node, name_of

SHAPED = ("randn", "rand", "randint", "normal", "randperm")  # drawn from nothing but a shape
LIKE = ("rand_like", "randn_like", "randint_like", "bernoulli", "multinomial", "poisson")  # one for each entry of a tensor
DROPPING = ("dropout", "dropout_", "feature_dropout", "alpha_dropout", "native_dropout")


@contextmanager
def same_draws() -> Iterator[None]:
    """Within it every run draws the same numbers in the same order; the caller's generators go on as if nothing had been."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield


def draws(program: ExportedProgram) -> bool:
    """Whether the evaluation-mode forward pass asks for random numbers."""
    return any(name_of(n) in (*SHAPED, *LIKE) or drops(n) for n in every_node(program))


def drops(n: fx.Node) -> bool:
    """Whether a dropout is left on in evaluation."""
    return name_of(n) in DROPPING and bool(arguments(n).get("train")) and bool(arguments(n).get("p"))
