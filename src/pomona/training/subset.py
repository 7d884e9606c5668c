"""Training few parameters and leaving every other as it is: biases, norms, the head (Zimmer et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from pomona.vocabulary import Batch, InputError, evaluating

WORDS = ("biases", "norms", "head")


def words(which: str) -> tuple[str, ...]:
    """`biases+norms` as its words, `none` as no word; raises InputError with the nearest right spelling."""
    found = () if which == "none" else tuple(word.strip() for word in which.split("+"))
    for word in found:
        if word not in WORDS:
            close = get_close_matches(word, WORDS, 1)
            hint = f"did you mean '{close[0]}'? They" if close else "they"
            raise InputError(f"'{word}' is no kind of parameter to train; {hint} are {', '.join(WORDS)}, joined by +, or none.")
    return found


def subset(model: nn.Module, which: str, first: Batch) -> list[nn.Parameter]:
    """The parameters that `which` names, each once; `first` is run only to find the head.

    Biases are vectors that their module calls a bias, norms all parameters of modules that hold vectors and nothing else, the
    head is the matrix that a forward pass uses last, with its bias (and the embedding, where the two are tied).
    """
    found: dict[int, nn.Parameter] = {}
    for word in words(which):
        parameters = {"biases": biases, "norms": norms}[word](model) if word != "head" else head(model, first)
        found |= {id(parameter): parameter for parameter in parameters}
    return list(found.values())


def biases(model: nn.Module) -> list[nn.Parameter]:
    """Vectors called a bias, those of norms among them."""
    return [p for name, p in model.named_parameters() if p.ndim == 1 and "bias" in name.rpartition(".")[2]]


def norms(model: nn.Module) -> list[nn.Parameter]:
    """Scales and shifts: the parameters of modules without children that hold vectors only."""
    leaves = (list(module.parameters()) for module in model.modules() if not any(True for _ in module.children()))
    return [parameter for own in leaves if all(p.ndim == 1 for p in own) for parameter in own]


def head(model: nn.Module, first: Batch) -> list[nn.Parameter]:
    """The parameters of the module that holds a matrix of its own and is called last."""
    called: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        if any(p.ndim >= 2 for p in module.parameters(recurse=False)):
            called.append(module)

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        with evaluating(model), torch.no_grad():
            model(*first.args, **first.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return list(called[-1].parameters(recurse=False)) if called else []


@contextmanager
def only(model: nn.Module, chosen: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within it the chosen parameters take gradients and no other; afterwards each does what it did before."""
    before: Sequence[tuple[nn.Parameter, bool]] = [(p, p.requires_grad) for p in model.parameters()]
    wanted = {id(parameter) for parameter in chosen}
    try:
        for parameter, _ in before:
            parameter.requires_grad_(id(parameter) in wanted)
        yield
    finally:
        for parameter, flag in before:
            parameter.requires_grad_(flag)
