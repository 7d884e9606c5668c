"""A plain forward pass that looks at what every chosen expert adds to every token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pomona.probes.recording import examples
from pomona.vocabulary import Batch, InputError, Loss, Requirement, Seen, Watch, evaluating


@dataclass(frozen=True)
class Routed:
    """Of watched modules of experts: `blocks[name]` is (numbers of the chosen experts, norms of what each adds), (tokens, k).

    Such a module is called with a whole-number and a floating-point tensor of one shape (tokens, k): who was chosen, and what
    their outputs are multiplied by before they are summed. It is asked again for each of the k choices alone, so what one expert
    adds is seen whatever goes on inside; that costs the experts' work once more.
    """

    requires: ClassVar[frozenset[Requirement]] = frozenset({"data"})
    per_example: ClassVar[bool] = False

    def run(self, model: nn.Module, batch: Batch, loss: Loss | None, watch: Watch) -> Seen:
        """One pass; padding is left out. Raises InputError where a module is called in another way or not at all."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in sorted(watch.blocks)}
        handles = []
        try:
            for name, calls in found.items():
                hook = _asking(name, calls, batch.visible)
                handles.append(model.get_submodule(name).register_forward_hook(hook, with_kwargs=True))
            with evaluating(model), torch.no_grad():
                model(*batch.args, **batch.kwargs)
        finally:
            for handle in handles:
                handle.remove()
        missing = [name for name, calls in found.items() if not calls]
        if missing:
            raise InputError(
                f"The experts of {missing[0]} are never called on this data, so what they add is unknown; skip them."
            )
        blocks = {name: tuple(map(torch.cat, zip(*calls, strict=True))) for name, calls in found.items()}
        return Seen(examples(batch), blocks=blocks)  # type: ignore[arg-type]


def _asking(name: str, calls: list[tuple[Tensor, Tensor]], mask: Any) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        numbers = _choices(name, args, kwargs)

        def only(choice: int) -> Callable[[Any], Any]:
            def part(value: Any) -> Any:
                return value[:, choice : choice + 1] if isinstance(value, Tensor) and value.shape == numbers.shape else value

            return part

        norms = []
        for choice in range(numbers.shape[1]):
            added = module.forward(*tree_map(only(choice), args), **tree_map(only(choice), dict(kwargs)))
            norms.append(added.reshape(len(numbers), -1).double().norm(dim=1))
        seen = torch.ones(len(numbers), dtype=torch.bool, device=numbers.device)
        if isinstance(mask, Tensor) and mask.numel() == len(numbers):
            seen = mask.flatten().bool().to(numbers.device)
        calls.append((numbers[seen], torch.stack(norms, 1)[seen]))

    return hook


def _choices(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Who was chosen, (tokens, k); raises InputError where the call does not say so."""
    given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() == 2]
    numbers = [value for value in given if not value.is_floating_point() and value.dtype != torch.bool]
    if len(numbers) == 1 and any(value.is_floating_point() and value.shape == numbers[0].shape for value in given):
        return numbers[0]
    raise InputError(
        f"{name} is not called with the numbers of the chosen experts and their weights, so what each adds is unknown; "
        "score experts by their weights."
    )
