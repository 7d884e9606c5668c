"""The relevance of every activation for the class of its example (Bach et al., 2015; Yeom et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from pomona.probes.losses import check_targets
from pomona.probes.lrp_rules import Redistributed, Rule
from pomona.probes.recording import examples, join, recording, values
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch, evaluating

Start = Literal["logit", "one"]


@dataclass(frozen=True)
class RelevancePass:
    """One forward pass, and one backward that conserves relevance: `input_grads` holds it for what watched weights read.

    It starts at the unit of the example's class, with the class score or with 1, and is handed down by the rules of
    `lrp_rules.Redistributed`. Evaluation mode; the model must be made of what has a rule, and answer with class scores.
    """

    dense: Rule = "epsilon"
    convolution: Rule = "positive"
    epsilon: float = 1e-6
    start: Start = "logit"
    requires: ClassVar[frozenset[Requirement]] = frozenset({"data", "labels"})
    per_example: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for rule in (self.dense, self.convolution):
            if rule not in get_args(Rule):
                raise InputError(f"'{rule}' is not a rule of relevance propagation; use epsilon or positive.")
        if self.start not in get_args(Start) or not self.epsilon > 0:
            raise InputError("Relevance starts from 'logit' or 'one', and its epsilon is positive.")

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """Raises InputError for operations without a rule, and for batches without one class an example."""
        given = batch.unlabelled
        with evaluating(model), torch.no_grad():
            dense = _logits(model(*given.args, **given.kwargs))
        rules = Redistributed(self.dense, self.convolution, self.epsilon)
        with evaluating(model), torch.enable_grad():
            with rules, recording(model, watch, differentiate=True) as record:
                logits = _logits(model(*given.args, **given.kwargs))
            if not torch.allclose(logits, dense, rtol=1e-4, atol=1e-5):
                raise InputError("This model overwrites activations that it reads again, so relevance cannot be followed.")
            calls = {name: record.calls(name) for name in sorted(watch.inputs)}
            at = [tensor for tensors in calls.values() for tensor in tensors]
            found = torch.autograd.grad(logits, at, self._beginning(logits.detach(), batch.target), allow_unused=True)
        handed = iter(torch.zeros_like(t) if r is None else r for r, t in zip(found, at, strict=True))
        relevance = {name: join(name, [next(handed) for _ in tensors]) for name, tensors in calls.items()}
        return Seen(examples(batch), input_grads=relevance, weights=values(model, watch))

    def _beginning(self, logits: Tensor, target: Any) -> Tensor:
        if not isinstance(target, Tensor) or target.is_floating_point() or target.shape != logits.shape[:1]:
            raise InputError(
                "Relevance starts at the class of each example; give (input, target) pairs with one class label each."
            )
        check_targets(logits, target)
        chosen = torch.zeros_like(logits).scatter_(1, target.to(logits.device)[:, None], 1.0)
        return chosen * logits if self.start == "logit" else chosen


def _logits(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise InputError("Relevance propagation needs a classifier: a model whose output is one row of class scores an example.")
    return logits
