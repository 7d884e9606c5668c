"""timm without torchvision: timm imports it for data loading and for one class, and torchvision has no build for every torch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pomona.vocabulary import InputError

_NAMES = {
    "torchvision": (),
    "torchvision.datasets": ("CIFAR100", "CIFAR10", "MNIST", "KMNIST", "FashionMNIST", "ImageFolder"),
    "torchvision.ops": (),
    "torchvision.ops.misc": (),
    "torchvision.transforms": (
        "CenterCrop", "ColorJitter", "Compose", "GaussianBlur", "Grayscale", "Lambda", "Normalize", "PILToTensor",
        "RandomApply", "RandomChoice", "RandomCrop", "RandomGrayscale", "RandomHorizontalFlip", "RandomResizedCrop",
        "RandomVerticalFlip", "Resize", "ToTensor",
    ),
    "torchvision.transforms.functional": (),
}  # fmt: skip


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with fixed statistics, as in torchvision: the one class of it that timm's models may use."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((num_features,), value))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w), normalised per channel by the stored statistics."""
        scale = self.get_buffer("weight") * (self.get_buffer("running_var") + self.eps).rsqrt()
        shift = self.get_buffer("bias") - self.get_buffer("running_mean") * scale
        return x * scale[:, None, None] + shift[:, None, None]


class InterpolationMode(Enum):
    """The resampling methods by torchvision's names; timm builds tables of them at import."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


class _Missing:
    """Stands for a class of torchvision that only timm's data loading uses."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise InputError("timm's own data loading needs torchvision, which is not installed; Pomona's loaders do not.")


def import_timm() -> Any:
    """The timm package; InputError with the pip line when it is not installed.

    Without a working torchvision, timm is imported over a stub of the few names that it touches at import. The stub is
    taken away at once: transformers asks whether torchvision is there and must hear the truth.
    """
    if "timm" in sys.modules:
        return sys.modules["timm"]
    if importlib.util.find_spec("timm") is None:
        raise InputError("timm:NAME needs timm: pip install 'pomona[timm]'.")
    if _torchvision_works():
        return importlib.import_module("timm")
    with _stub():
        return importlib.import_module("timm")


def _torchvision_works() -> bool:
    if "torchvision" in sys.modules:
        return True
    try:
        importlib.import_module("torchvision")
    # A torchvision built for another torch fails with RuntimeError (an operator is missing) or OSError (a library is).
    except (ImportError, RuntimeError, OSError):
        _forget_torchvision()
        return False
    return True


@contextmanager
def _stub() -> Iterator[None]:
    modules = {name: ModuleType(name) for name in _NAMES}
    for name, module in modules.items():
        module.__path__ = []
        for attribute in _NAMES[name]:
            setattr(module, attribute, type(attribute, (_Missing,), {}))
        parent, _, leaf = name.rpartition(".")
        if parent:
            setattr(modules[parent], leaf, module)
    vars(modules["torchvision.ops.misc"])["FrozenBatchNorm2d"] = FrozenBatchNorm2d
    for name in ("torchvision.transforms", "torchvision.transforms.functional"):
        vars(modules[name])["InterpolationMode"] = InterpolationMode
    sys.modules.update(modules)
    try:
        yield
    finally:
        _forget_torchvision()


def _forget_torchvision() -> None:
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]
