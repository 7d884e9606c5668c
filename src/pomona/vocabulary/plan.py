"""The waist of the hour-glass: everything before it decides, everything after it carries out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from pomona.vocabulary.bits import pack, unpack
from pomona.vocabulary.errors import InputError
from pomona.vocabulary.files import write_atomically
from pomona.vocabulary.scores import Decision
from pomona.vocabulary.sites import Member, Site

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Plan:
    """Decisions by site with their provenance and prices: plain data that can be saved, diffed and replayed.

    `sites` describes where the decisions act (name, kind, shape, members), `decisions` who stays. `provenance` holds
    strings and numbers only: recipe, goal, seed, versions, prices before and after. Masks are stored, never guessed
    from `weight == 0`.
    """

    sites: Mapping[str, Site]
    decisions: Mapping[str, Decision]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def keep(self, site: str) -> Tensor:
        """Who stays at a site: bool, the site's shape."""
        return self.decisions[site].keep

    def of_kind(self, kind: str) -> dict[str, Tensor]:
        """Site name -> keep, for the sites of one kind."""
        return {name: self.decisions[name].keep for name, site in self.sites.items() if site.kind == kind}

    def unsolved(self) -> Plan:
        """The same decisions without what solvers made of the survivors: for a model that has been trained since."""
        return replace(self, decisions={name: Decision(decision.keep) for name, decision in self.decisions.items()})

    @property
    def removes(self) -> int:
        """How many units go."""
        return sum(int((~d.keep).sum()) for d in self.decisions.values())

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically: masks bit-packed, everything else in its header."""
        tensors: dict[str, Tensor] = {}
        described = []
        for name, site in self.sites.items():
            decision = self.decisions[name]
            tensors[f"keep/{name}"] = pack(decision.keep)
            for tensor, value in decision.tensors.items():
                tensors[f"solved/{name}/{tensor}"] = value.contiguous()
            members = []
            for number, member in enumerate(site.members):
                if member.index is not None:
                    tensors[f"index/{name}/{number}"] = member.index.to(torch.int32).contiguous()
                members.append(
                    {
                        "tensor": member.tensor,
                        "role": member.role,
                        "dim": member.dim,
                        "buffer": member.buffer,
                        "shape": member.shape,
                    }
                )
            described.append(
                {
                    "name": name,
                    "kind": site.kind,
                    "shape": site.shape,
                    "blocks": site.blocks,
                    "members": members,
                    "solved": sorted(decision.tensors),
                }
            )
        header = {"format": FORMAT, "sites": described, "provenance": dict(self.provenance)}
        text = json.dumps(header)  # one entry of metadata: safetensors writes several in an order of chance
        write_atomically(Path(path), to_bytes(tensors, metadata={"pomona": f"{_digest(text, tensors)}\n{text}"}))

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan; raises InputError on a file that is missing, truncated, altered or not a plan."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"There is no plan at {path}.")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a readable plan ({error}); it may be truncated.") from None
        if "pomona" not in metadata:
            raise InputError(f"{path} is a safetensors file but not a Pomona plan.")
        digest, _, text = metadata["pomona"].rpartition("\n")
        if (digest or metadata.get("sha256")) != _digest(text, tensors):
            raise InputError(f"{path} has been altered since it was written; its checksum does not match.")
        header = json.loads(text)
        if header["format"] != FORMAT:
            raise InputError(f"{path} has plan format {header['format']}; this Pomona reads {FORMAT}.")
        sites, decisions = {}, {}
        for entry in header["sites"]:
            name, shape = entry["name"], tuple(entry["shape"])
            members = tuple(_member(m, _index(tensors, f"index/{name}/{number}")) for number, m in enumerate(entry["members"]))
            sites[name] = Site(name, entry["kind"], shape, members, blocks=tuple(entry["blocks"]))
            solved = {tensor: tensors[f"solved/{name}/{tensor}"] for tensor in entry["solved"]}
            decisions[name] = Decision(unpack(tensors[f"keep/{name}"], shape), solved)
        return cls(sites, decisions, header["provenance"])


def _member(entry: Mapping[str, Any], index: Tensor | None) -> Member:
    return Member(entry["tensor"], entry["role"], entry["dim"], index, entry["buffer"], tuple(entry["shape"]))


def _index(tensors: Mapping[str, Tensor], key: str) -> Tensor | None:
    return tensors[key].long() if key in tensors else None


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
