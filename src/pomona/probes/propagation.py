"""Scores of the final responses, propagated back to what every weight reads (NISP, Yu et al., 2018)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pomona.probes.absolute import absolute
from pomona.probes.inf_fs import infinite_selection
from pomona.probes.recording import examples, join, main, recording, values
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch, evaluating, generator

Scorer = Literal["inf-fs", "deviation", "equal"]
_ALIKE = 1e-6  # how far the gradients of two inputs may differ, relative to the largest, in a network that is one straight line


@dataclass(frozen=True)
class Propagation:
    """For a batch: what the final responses are worth, and how that reaches every place through absolute weights.

    The final responses are what the weight `response` reads, by default the last layer that is called. They are scored
    over the batch by infinite feature selection ("inf-fs"), by their standard deviation, or all alike. `input_grads` holds
    the gradient of the sum of scores times responses in the network of `absolute`, of which the inputs do not matter.
    Raises InputError where they do matter, because the model is made of more than `absolute` can straighten.
    """

    scorer: Scorer = "inf-fs"
    mix: float = 0.5
    response: str = ""
    requires: ClassVar[frozenset[Requirement]] = frozenset({"data"})
    per_example: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.scorer not in get_args(Scorer):
            raise InputError(f"'{self.scorer}' scores no responses; use one of {', '.join(get_args(Scorer))}.")
        if not 0 <= self.mix <= 1:
            raise InputError(f"The mix of deviation and correlation lies between 0 and 1; got {self.mix:g}.")

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Gradients at two made-up examples, both alike."""
        given = batch.unlabelled
        name, responses = final_responses(model, given, self.response)
        found = propagated(model, given, watch.inputs, name, self._scores(responses))
        return Seen(2, input_grads=found, weights=values(model, watch))

    def _scores(self, responses: Tensor) -> Tensor:
        if self.scorer == "inf-fs":
            return infinite_selection(responses, self.mix)
        x = responses.double()
        return x.std(0, correction=0) if self.scorer == "deviation" else torch.ones_like(x[0])


def final_responses(model: nn.Module, batch: Batch, response: str = "") -> tuple[str, Tensor]:
    """The name of the weight whose input counts as the final responses, and that input: (samples, features).

    Raises InputError where no module with weights is called, or `response` names no weight that one reads.
    """
    last: list[tuple[str, Tensor]] = []
    matrices = {
        f"{owner}.{name}".removeprefix("."): module
        for owner, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() > 1 and (not response or response in (owner, f"{owner}.{name}"))
    }

    def hook(name: str) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            _, tensor = main(args, kwargs)
            if tensor is not None:
                last[:] = [(name, tensor.detach())]

        return note

    handles = [module.register_forward_pre_hook(hook(name), with_kwargs=True) for name, module in matrices.items()]
    try:
        with evaluating(model), torch.no_grad():
            model(*batch.args, **batch.kwargs)
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise InputError(f"No weight {response or 'of the model'} is read by its own module, so there are no final responses.")
    name, x = last[0]
    return name, _by_feature(x, model.get_parameter(name)).flatten(0, -2)


def propagated(model: nn.Module, batch: Batch, names: Iterable[str], response: str, scores: Tensor) -> dict[str, Tensor]:
    """Weight name -> what its input is worth, (2, ...): the gradient of the scored inputs of `response` in the absolute network.

    The two examples are made up in the likeness of the batch; where their gradients differ the model is refused.
    """
    wanted = sorted(names)
    pair, watch = _pair(batch), Watch(inputs=frozenset({*wanted, response}))
    with evaluating(model), torch.enable_grad(), recording(model, watch, differentiate=True) as record:
        absolute(model, pair.args, pair.kwargs)
        final = record.calls(response)[-1]
        value = (_by_feature(final, model.get_parameter(response)) * scores).sum()
        calls = {name: record.calls(name) for name in wanted}
        at = [tensor for tensors in calls.values() for tensor in tensors]
        grads = torch.autograd.grad(value, at, allow_unused=True)
    found = iter(torch.zeros_like(t) if g is None else g for g, t in zip(grads, at, strict=True))
    return {name: join(name, [_straight(name, next(found)) for _ in tensors]) for name, tensors in calls.items()}


def _by_feature(x: Tensor, weight: Tensor) -> Tensor:
    return x.movedim(1, -1) if weight.dim() > 2 else x


def _straight(name: str, gradient: Tensor) -> Tensor:
    one, two = gradient.reshape(2, -1)
    if not bool((one - two).abs().max() <= _ALIKE * one.abs().max()):
        raise InputError(
            f"Importance cannot be propagated back to what {name} reads: on the way the model computes what has no straight "
            "line (a recurrent cell, products of activations); use another criterion."
        )
    return gradient


def _pair(batch: Batch) -> Batch:
    """Two examples of the batch's shapes: noise for numbers, the first example there and back for tokens and masks."""
    size, noise = examples(batch), generator(0)

    def two(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if not value.ndim or len(value) != size:
            return value.double() if value.is_floating_point() else value
        if value.is_floating_point():
            return torch.randn(2, *value.shape[1:], dtype=torch.float64, generator=noise).to(value.device)
        return torch.cat([value[:1], value[:1].flip(-1)])

    return Batch(tree_map(two, batch.args), tree_map(two, dict(batch.kwargs)))
