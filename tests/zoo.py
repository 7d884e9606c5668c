"""Tiny models with living signals: one or two of every kind that Pomona must carry.

Each function returns `(model.eval(), args)`; `args` is a tuple (positional) or a dict (keywords). Weights are seeded,
BatchNorm statistics and all affine parameters are random, so that a wrong coupling shows in the output.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _awake(model: nn.Module, seed: int = 0) -> nn.Module:
    """Randomise affine parameters, biases and running statistics; scale matrices and kernels so that no signal dies."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1:
                centre = 1.0 if name.endswith("weight") or "gamma" in name else 0.0
                p.copy_(centre + 0.3 * torch.randn(p.shape, generator=g))
            else:
                p.mul_(1.5 / (p.numel() / p.shape[0]) ** 0.5 / p.std())
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.2 * torch.randn(b.shape, generator=g))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=g))
    return model.eval()


def _seeded() -> None:
    torch.manual_seed(0)


def image(batch: int = 2, channels: int = 3, side: int = 16) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))


def tokens(batch: int = 2, length: int = 6, vocabulary: int = 40) -> Tensor:
    return torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(1))


def mlp(batch: int = 2):
    _seeded()
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    return _awake(model), (torch.randn(batch, 8, generator=torch.Generator().manual_seed(1)),)


def vgg(batch: int = 2):
    _seeded()
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(12 * 16, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 5))
    model = nn.Sequential()
    model.add_module("features", features)
    model.add_module("classifier", head)
    return _awake(model), (image(batch),)


class Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = None
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.shortcut is None else self.shortcut(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(Residual(8, 8), Residual(8, 8))
        self.layer2 = nn.Sequential(Residual(8, 16, 2), Residual(16, 16), Residual(16, 16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def resnet(batch: int = 2):
    _seeded()
    return _awake(ResNet()), (image(batch),)


class DenseLayer(nn.Module):
    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))], 1)


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.block = nn.Sequential(DenseLayer(8, 4), DenseLayer(12, 4), DenseLayer(16, 4))
        self.transition = nn.Conv2d(20, 10, 1, bias=False)
        self.last = DenseLayer(10, 4)
        self.norm = nn.BatchNorm2d(14)
        self.classifier = nn.Linear(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(self.transition(self.block(self.stem(x))), 2)
        return self.classifier(F.relu(self.norm(self.last(x))).mean((2, 3)))


def densenet(batch: int = 2):
    _seeded()
    return _awake(DenseNet()), (image(batch),)


class InvertedResidual(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1, expand: int = 3) -> None:
        super().__init__()
        hidden = before * expand
        self.residual = stride == 1 and before == after
        self.conv = nn.Sequential(
            nn.Conv2d(before, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.Hardswish(),
            InvertedResidual(8, 12, 2),
            InvertedResidual(12, 12),
            InvertedResidual(12, 12),
            nn.Conv2d(12, 24, 1, groups=4),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean([2, 3]))


def mobilenet(batch: int = 2):
    _seeded()
    return _awake(MobileNet()), (image(batch),)


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, squeeze: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.reduce = nn.Linear(width, squeeze)
        self.expand = nn.Linear(squeeze, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(y.mean((2, 3))))))
        return F.relu(x + y * gate[:, :, None, None])


class SENet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.blocks = nn.ModuleList([SqueezeExcite(12, 6), SqueezeExcite(12, 6)])
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


def senet(batch: int = 2):
    _seeded()
    return _awake(SENet()), (image(batch),)


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.pwconv1 = nn.Linear(width, 3 * width)
        self.pwconv2 = nn.Linear(3 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.stages = nn.Sequential(ConvNeXtBlock(8), ConvNeXtBlock(8))
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.stages(self.stem(x)).mean((-2, -1))))


def convnext(batch: int = 2):
    _seeded()
    return _awake(ConvNeXt()), (image(batch),)


class VitBlock(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, width // heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def attend(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, self.heads * self.head_dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.cls = nn.Parameter(0.1 * torch.randn(1, 1, 16))
        self.pos = nn.Parameter(0.1 * torch.randn(1, 5, 16))
        self.blocks = nn.Sequential(VitBlock(16, 4, 24), VitBlock(16, 4, 24))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit(batch: int = 2):
    _seeded()
    return _awake(ViT()), (image(batch),)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.lstm = nn.LSTM(8, 12, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


def lstm(batch: int = 2):
    _seeded()
    return _awake(Lstm()), (tokens(batch),)


def bert(batch: int = 2):
    from transformers import BertConfig, BertForSequenceClassification

    _seeded()
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=16,
        num_labels=3,
    )
    ids = tokens(batch)
    return _awake(BertForSequenceClassification(config)), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def gpt2(batch: int = 2):
    from transformers import GPT2Config, GPT2LMHeadModel

    _seeded()
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    return _awake(GPT2LMHeadModel(config)), {"input_ids": tokens(batch)}


DECODER = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16,
}


def llama(batch: int = 2):
    from transformers import LlamaConfig, LlamaForCausalLM

    _seeded()
    config = LlamaConfig(
        **DECODER,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    return _awake(LlamaForCausalLM(config)), {"input_ids": tokens(batch)}


def mixtral(batch: int = 2):
    from transformers import MixtralConfig, MixtralForCausalLM

    _seeded()
    config = MixtralConfig(
        **DECODER,
        num_local_experts=6,
        num_experts_per_tok=2,
    )
    return _awake(MixtralForCausalLM(config)), {"input_ids": tokens(batch)}


EVERY = (mlp, vgg, resnet, densenet, mobilenet, senet, convnext, vit, lstm, bert, gpt2, llama)
# For tests that take the axes one by one: these two have many, and llama's are much like theirs.
BY_AXIS = [pytest.param(make, marks=pytest.mark.slow) if make in (bert, gpt2) else make for make in EVERY]
