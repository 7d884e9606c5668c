"""Gates put between stored parameters and the forward pass, and taken out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from pomona.engines.masks import stored
from pomona.gates.hard import Hard
from pomona.vocabulary import Clock, Gate, InputError, Site


@runtime_checkable
class Mending(Protocol):
    """A gate that sets its own learned tensors right after an optimiser step."""

    def mend(self, weight: Tensor, learned: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The learned tensors as they should be."""
        ...


class _Gated(nn.Module):
    """One parameter as the forward pass sees it. The mask is a buffer (it follows the device) that is not saved here."""

    alive: Tensor

    def __init__(self, gate: Gate, alive: Tensor, learned: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.gate, self.clock = gate, Clock()
        self.learned = nn.ParameterDict({name: nn.Parameter(value) for name, value in learned.items()})
        self.register_buffer("alive", alive, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The gated weight."""
        return self.gate.apply(weight, self.alive, dict(self.learned), self.clock)


class Gating:
    """The gates of a run. Parameters keep their identity, so the optimiser stays valid; tied ones are gated everywhere.

    While gates are attached the model's `state_dict` names the stored weight `<module>.parametrizations.<name>.original`.
    """

    def __init__(self, model: nn.Module, gate: Gate, sites: Sequence[Site], masks: Mapping[str, Tensor]) -> None:
        self._model, self._sites, self._site_of = model, sites, _learned_at(gate, sites, model)
        self._gated: dict[str, _Gated] = {}
        self._places: dict[str, list[tuple[nn.Module, str]]] = {}
        self._orders: dict[nn.Module, list[str]] = {}
        self._hooks: list[RemovableHandle] = []
        for name, mask in masks.items():
            parameter, site = model.get_parameter(name), self._site_of.get(name)
            learned = gate.learned(site, parameter.detach()) if site else {}
            self._gated[name] = _Gated(gate, mask, learned)
            self._places[name] = _places(model, parameter)
            for module, attribute in self._places[name]:
                self._attach(module, attribute, self._gated[name])

    @property
    def learned(self) -> dict[str, nn.Parameter]:
        """What the gates learn, as `<site>/gate/<name>`."""
        gates = {site.name: self._gated[tensor] for tensor, site in self._site_of.items()}
        return {f"{site}/gate/{name}": value for site, gated in gates.items() for name, value in gated.learned.items()}

    @property
    def holds(self) -> bool:
        """Whether the dead must be kept where they are."""
        return any(gated.gate.holds for gated in self._gated.values())

    def set(self, masks: Mapping[str, Tensor], clock: Clock) -> None:
        """Tell the gates who is alive and what time it is."""
        for name, gated in self._gated.items():
            gated.alive, gated.clock = masks[name], clock

    @torch.no_grad()
    def mend(self) -> None:
        """Let gates that watch over their learned tensors do so."""
        for name, gated in self._gated.items():
            if isinstance(gated.gate, Mending) and gated.learned:
                for key, value in gated.gate.mend(stored(self._model, name), dict(gated.learned)).items():
                    gated.learned[key].copy_(value)

    def close(self) -> None:
        """Every gate becomes hard: who is dead reads as zero from now on."""
        for gated in self._gated.values():
            gated.gate = Hard()

    @torch.no_grad()
    def detach(self) -> None:
        """A plain model again, its parameters holding what the forward pass saw, in their old order."""
        for hook in self._hooks:
            hook.remove()
        for name, places in self._places.items():
            parameter, effective = stored(self._model, name), self._gated[name](stored(self._model, name))
            for module, attribute in places:
                parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
            parameter.copy_(effective)
        for module, order in self._orders.items():
            for attribute in order:
                module._parameters[attribute] = module._parameters.pop(attribute)
            if hasattr(module, "_flat_weights_names"):
                setattr(module, "_flat_weights", _flat(module))  # noqa: B010 (nn.Module's types know no lists)

    def _attach(self, module: nn.Module, attribute: str, gated: _Gated) -> None:
        first = module not in self._orders
        if first:
            self._orders[module] = list(module._parameters)
        parametrize.register_parametrization(module, attribute, gated)
        if first and hasattr(module, "_flat_weights_names"):
            # Recurrent modules read a list made once, past the attributes: rebuild it for the forward pass alone,
            # since a list of computed tensors would make the model impossible to copy.
            self._hooks.append(module.register_forward_pre_hook(lambda m, _: setattr(m, "_flat_weights", _flat(m))))
            self._hooks.append(module.register_forward_hook(lambda m, *_: setattr(m, "_flat_weights", []), always_call=True))


def _flat(module: Any) -> list[Tensor | None]:
    return [getattr(module, name, None) for name in module._flat_weights_names]


def _places(model: nn.Module, parameter: nn.Parameter) -> list[tuple[nn.Module, str]]:
    return [(module, name) for module in model.modules() for name, value in module._parameters.items() if value is parameter]


def _learned_at(gate: Gate, sites: Sequence[Site], model: nn.Module) -> dict[str, Site]:
    """Tensor -> the site whose gate learns there; raises InputError where two sites would learn at one tensor."""
    found: dict[str, Site] = {}
    for site in sites:
        for member in site.members:
            if member.buffer or not gate.learned(site, model.get_parameter(member.tensor).detach()):
                continue
            if member.tensor in found:
                both = f"{found[member.tensor].name} and {site.name}"
                raise InputError(f"{member.tensor} is reached by {both}; a learned gate needs one site.")
            found[member.tensor] = site
    return found
