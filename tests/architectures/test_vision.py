"""Networks for pictures, as people write them by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from halving import F, laws, noise


def conv_bn(before: int, after: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Up(nn.Module):
    """Twice the resolution, joined with what came down; padded where the sizes disagree."""

    def __init__(self, before: int, skip: int, after: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(before, before // 2, 2, 2)
        self.conv = nn.Sequential(conv_bn(before // 2 + skip, after), conv_bn(after, after))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
        x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([skip, x], dim=1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2, self.mid = conv_bn(3, 8), conv_bn(8, 12), conv_bn(12, 16)
        self.up2, self.up1 = Up(16, 12, 12), Up(12, 8, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc1(x)
        b = self.enc2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        return self.out(self.up1(self.up2(c, b), a))


class Detector(nn.Module):
    """A pyramid, one head for all levels, anchors in a buffer, lists and dicts as output."""

    def __init__(self, anchors: int = 3, classes: int = 4, width: int = 12) -> None:
        super().__init__()
        self.classes, self.num_anchors = classes, anchors
        self.stem = conv_bn(3, 8, 2)
        self.c3, self.c4 = conv_bn(8, 16, 2), conv_bn(16, 24, 2)
        self.lateral = nn.ModuleList([nn.Conv2d(16, width, 1), nn.Conv2d(24, width, 1)])
        self.smooth = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])
        self.tower = nn.Sequential(nn.Conv2d(width, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU())
        self.cls, self.box = nn.Conv2d(16, anchors * classes, 1), nn.Conv2d(16, anchors * 4, 1)
        self.scales = nn.ParameterList([nn.Parameter(torch.tensor(1.0 + i)) for i in range(2)])
        self.register_buffer("anchors", torch.rand(2, anchors, 4))

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        p4 = self.lateral[1](c4)
        p3 = self.lateral[0](c3) + F.interpolate(p4, size=c3.shape[-2:], mode="nearest")
        logits, boxes = [], []
        for level, p in enumerate((p3, p4)):
            t = self.tower(self.smooth[level](p))
            b, _, h, w = t.shape
            c = self.cls(t).view(b, self.num_anchors, self.classes, h, w).permute(0, 3, 4, 1, 2)
            d = self.box(t).view(b, self.num_anchors, 4, h, w).permute(0, 3, 4, 1, 2)
            logits.append(c.reshape(b, -1, self.classes))
            boxes.append((d * self.scales[level] + self.anchors[level]).reshape(b, -1, 4))
        return {"logits": logits, "boxes": boxes}


class SuperResolution(nn.Module):
    """ESPCN with a long skip: pixel shuffle in the middle and at the end."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(
            *[nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.PReLU(), nn.Conv2d(16, 8, 3, padding=1)) for _ in range(2)]
        )
        self.up = nn.Sequential(nn.Conv2d(8, 8 * scale**2, 3, padding=1), nn.PixelShuffle(scale), nn.PReLU(8))
        self.last = nn.Conv2d(8, 3 * scale**2, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y + self.body(y)
        y = F.pixel_shuffle(self.last(self.up(y)), self.scale)
        return y + F.interpolate(x, scale_factor=4, mode="bicubic", align_corners=False)


class Shuffle(nn.Module):
    """ShuffleNet v2: half of the channels go through, then channels are shuffled by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, groups=half), nn.BatchNorm2d(half), nn.Conv2d(half, half, 1), nn.ReLU(),
        )  # fmt: skip

    @staticmethod
    def mix(x: Tensor, groups: int) -> Tensor:
        b, c, h, w = x.size()
        return x.view(b, groups, c // groups, h, w).transpose(1, 2).contiguous().view(b, -1, h, w)

    def forward(self, x: Tensor) -> Tensor:
        kept, done = x.chunk(2, dim=1)
        return self.mix(torch.cat((kept, self.branch(done)), 1), 2)


class ShuffleDown(Shuffle):
    """Both halves from the whole input, at half the resolution."""

    def __init__(self, before: int, after: int) -> None:
        nn.Module.__init__(self)
        half = after // 2
        self.left = nn.Sequential(nn.Conv2d(before, before, 3, 2, 1, groups=before), nn.Conv2d(before, half, 1), nn.ReLU())
        self.right = nn.Sequential(
            nn.Conv2d(before, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, 2, 1, groups=half), nn.Conv2d(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.cat((self.left(x), self.right(x)), 1), 2)


class ShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 2)
        self.stage2 = nn.Sequential(ShuffleDown(8, 16), Shuffle(16), Shuffle(16))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage2(self.stem(x)).mean([2, 3]))


class ShuffleNetV1(nn.Module):
    """Grouped one by one convolutions with a shuffle in between; joined by concatenation at a stride."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.reduce = nn.Conv2d(8, 8, 1, groups=groups)
        self.shuffle = nn.ChannelShuffle(groups)
        self.depth = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.grow = nn.Conv2d(8, 8, 1, groups=groups)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.grow(self.depth(self.shuffle(F.relu(self.reduce(x)))))
        return self.fc(F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1)).flatten(2).mean(-1))


class Segmenter(nn.Module):
    """DeepLab-like: dilated convolutions side by side, a pooled one spread again, a skip, an auxiliary head as tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = conv_bn(3, 8, 2), conv_bn(8, 12, 2)
        self.rates = nn.ModuleList([nn.Conv2d(12, 6, 3, padding=r, dilation=r) for r in (1, 2, 3)])
        self.pooled = nn.Conv2d(12, 6, 1)
        self.project = nn.Conv2d(24, 10, 1)
        self.final, self.aux = nn.Conv2d(10 + 8, 3, 3, padding=1), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(x)
        high = self.high(low)
        p = F.adaptive_avg_pool2d(high, 1)
        p = self.pooled(p).expand(-1, -1, high.shape[2], high.shape[3])
        y = F.relu(self.project(torch.cat([r(high) for r in self.rates] + [p], 1)))
        y = F.interpolate(y, size=low.shape[-2:], mode="bilinear", align_corners=False)
        return F.interpolate(self.final(torch.cat([y, low], 1)), scale_factor=2.0), self.aux(high)


class SegNet(nn.Module):
    """Max pooling remembers its places, and unpooling puts values there."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 2, 1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y, places = self.pool(F.relu(self.down(x)))
        return self.out(F.relu(self.up(self.unpool(y, places))))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 10)
        self.b1, self.b2 = (
            nn.Conv2d(10, 4, 1),
            nn.Sequential(
                nn.Conv2d(10, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, (1, 7), padding=(0, 3)), nn.Conv2d(8, 8, (7, 1), padding=(3, 0))
            ),
        )
        self.b3 = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(10, 6, 1))
        self.fc = nn.Linear(18 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.b1(x), self.b2(x), self.b3(x)], 1)
        return self.fc(torch.flatten(F.adaptive_max_pool2d(x, (2, 2)), 1))


class LiteralGate(nn.Module):
    """Squeeze and excite with widths written into the view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.fc = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = self.fc(F.adaptive_avg_pool2d(x, 1).view(-1, 16)).view(-1, 16, 1, 1)
        return self.out(x * gate)


class PoliteGate(LiteralGate):
    """The same, with sizes asked for."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        b, c, _, _ = x.size()
        return self.out(x * self.fc(F.adaptive_avg_pool2d(x, 1).view(b, c)).view(b, c, 1, 1).expand_as(x))


class Selective(nn.Module):
    """SKNet: branches of different kernels, weighted by a softmax over the branches."""

    def __init__(self, width: int = 8, branches: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 1)
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3 + 2 * i, padding=1 + i, groups=2) for i in range(branches)])
        self.squeeze = nn.Linear(width, 4)
        self.rise = nn.ModuleList([nn.Linear(4, width) for _ in range(branches)])
        self.out = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        feats = torch.stack([conv(x) for conv in self.convs], 1)
        z = F.relu(self.squeeze(feats.sum(1).mean((-1, -2))))
        attention = torch.stack([rise(z) for rise in self.rise], 1).softmax(1)
        return self.out((feats * attention[..., None, None]).sum(1).mean((-1, -2)))


class SpatialAttention(nn.Module):
    """CBAM: maxima and means over channels make a map over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(2, 1, 7, padding=3), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv(x))
        maps = torch.cat([x.mean(1, keepdim=True), torch.max(x, dim=1, keepdim=True)[0]], 1)
        return self.out(x * torch.sigmoid(self.mix(maps)))


class Ghost(nn.Module):
    """Cheap channels from a depthwise convolution, cut to the width that is wanted."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.after = after
        first = -(-after // 2)
        self.primary = nn.Sequential(nn.Conv2d(before, first, 1), nn.BatchNorm2d(first), nn.ReLU())
        self.cheap = nn.Sequential(nn.Conv2d(first, first, 3, padding=1, groups=first), nn.BatchNorm2d(first))

    def forward(self, x: Tensor) -> Tensor:
        y = self.primary(x)
        return torch.cat([y, self.cheap(y)], 1)[:, : self.after]


class GhostNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = Ghost(3, 12), Ghost(12, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(x)).mean((2, 3)))


class Res2(nn.Module):
    """Res2Net: a hierarchy of slices within one block."""

    def __init__(self, width: int = 12, scale: int = 3) -> None:
        super().__init__()
        self.scale, self.each = scale, width // scale
        self.stem, self.into, self.out = nn.Conv2d(3, 10, 1), nn.Conv2d(10, width, 1), nn.Conv2d(width, 10, 1)
        self.convs = nn.ModuleList([nn.Conv2d(self.each, self.each, 3, padding=1) for _ in range(scale - 1)])
        self.head = nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        parts = torch.split(self.into(x), self.each, 1)
        done, last = [], None
        for i, conv in enumerate(self.convs):
            last = parts[i] if last is None else last + parts[i]
            last = F.relu(conv(last))
            done.append(last)
        done.append(parts[self.scale - 1])
        return self.head(x + self.out(torch.cat(done, 1)))


class CrossStage(nn.Module):
    """CSP as detectors write it: chunks kept in a list that grows, all concatenated."""

    def __init__(self, width: int = 12, n: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.c = width // 2
        self.cv1, self.cv2 = nn.Conv2d(8, 2 * self.c, 1), nn.Conv2d((2 + n) * self.c, 10, 1)
        self.m = nn.ModuleList(nn.Sequential(nn.Conv2d(self.c, self.c, 3, padding=1), nn.SiLU()) for _ in range(n))
        self.out = nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.cv1(self.stem(x)).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.out(self.cv2(torch.cat(y, 1)))


class BoxDecoder(nn.Module):
    """Distances as distributions: softmax over bins, an expectation by a frozen convolution, anchors by meshgrid."""

    def __init__(self, bins: int = 8) -> None:
        super().__init__()
        self.bins = bins
        self.stem, self.box = (
            nn.Conv2d(3, 12, 3, 2, 1),
            nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.SiLU(), nn.Conv2d(16, 4 * bins, 1)),
        )
        self.project = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.project.weight.data[:] = torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.box(self.stem(x))
        b, _, h, w = y.shape
        a = h * w
        d = self.project(y.view(b, 4, self.bins, a).transpose(2, 1).softmax(1)).view(b, 4, a)
        gy, gx = torch.meshgrid(torch.arange(h, dtype=x.dtype), torch.arange(w, dtype=x.dtype), indexing="ij")
        centre = torch.stack((gx, gy)).view(2, a)
        lt, rb = d.chunk(2, 1)
        return torch.cat((centre - lt, centre + rb), 1)


class Siamese(nn.Module):
    """One tower called twice, distances in between."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            conv_bn(1, 6), nn.MaxPool2d(2), conv_bn(6, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        )
        self.head = nn.Linear(10, 1)

    def forward(self, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        x, y = self.tower(a), self.tower(b)
        return {"same": torch.sigmoid(self.head(torch.abs(x - y))), "far": F.pairwise_distance(x, y)}


class Volume(nn.Module):
    """Video: factored three-dimensional convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.space, self.time = nn.Conv3d(3, 8, (1, 3, 3), padding=(0, 1, 1)), nn.Conv3d(8, 10, (3, 1, 1), padding=(1, 0, 0))
        self.norm, self.pool, self.fc = nn.BatchNorm3d(10), nn.AdaptiveAvgPool3d((1, 1, 1)), nn.Linear(10, 4)

    def forward(self, clip: Tensor) -> Tensor:
        return self.fc(self.pool(F.relu(self.norm(self.time(F.relu(self.space(clip)))))).flatten(1))


class TimeShift(nn.Module):
    """TSM: a part of the channels looks at the frame before, a part at the next."""

    def __init__(self, frames: int = 4, fold: int = 2) -> None:
        super().__init__()
        self.frames, self.fold = frames, fold
        self.a, self.b, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, clip: Tensor) -> Tensor:
        b, t, c, h, w = clip.shape
        x = F.relu(self.a(clip.reshape(b * t, c, h, w)))
        _, c, h, w = x.shape
        x, fold = x.view(b, t, c, h, w), self.fold
        out = torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return self.head(self.b(out.view(b * t, c, h, w)).view(b, t, -1, h, w).mean((1, 3, 4)))


class Style(nn.Module):
    """AdaIN: statistics of one picture on another, and a modulated, demodulated convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.affine, self.weight = nn.Linear(5, 8), nn.Parameter(torch.randn(6, 8, 3, 3) * 0.2)

    def forward(self, content: Tensor, style: Tensor, latent: Tensor) -> Tensor:
        c, s = self.enc(content), self.enc(style)
        c = (c - c.mean((2, 3), keepdim=True)) / (c.std((2, 3), keepdim=True) + 1e-3)
        c = c * s.std((2, 3), keepdim=True) + s.mean((2, 3), keepdim=True)
        b, ch, h, w = c.shape
        weight = self.weight[None] * (1 + self.affine(latent)).view(b, 1, ch, 1, 1)
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8)
        y = F.conv2d(c.reshape(1, b * ch, h, w), weight.reshape(b * self.weight.shape[0], ch, 3, 3), padding=1, groups=b)
        return self.out(F.leaky_relu(y.view(b, -1, h, w), 0.2))


class Harmonic(nn.Module):
    """Fixed filters in buffers: a blur by depthwise convolution with a buffer repeated to the width."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 3, 1)
        k = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filt", (k[:, None] * k[None] / 16)[None, None].repeat(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.b(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1]))


def picture(batch: int = 2, channels: int = 3, side: int = 16, seed: int = 1) -> Tensor:
    return noise(batch, channels, side, side, seed=seed)


CASES = {
    "u-net": (UNet, picture()),
    "u-net on odd sizes": (UNet, picture(side=19)),
    "detector": (Detector, picture()),
    "super-resolution": (SuperResolution, picture(side=8)),
    "shufflenet v2": (ShuffleNet, picture()),
    "shufflenet v1": (ShuffleNetV1, picture()),
    "segmenter": (Segmenter, picture()),
    "unpooling": (SegNet, picture(side=8)),
    "inception": (Inception, picture()),
    "gate with literal widths": (LiteralGate, picture(side=6)),
    "gate that asks": (PoliteGate, picture(side=6)),
    "selective kernels": (Selective, picture(side=6)),
    "spatial attention": (SpatialAttention, picture(side=6)),
    "ghost channels": (GhostNet, picture(side=6)),
    "res2net": (Res2, picture(side=6)),
    "cross stage": (CrossStage, picture(side=6)),
    "box decoder": (BoxDecoder, picture(side=8)),
    "siamese": (Siamese, (picture(2, 1, 8), picture(2, 1, 8, seed=2))),
    "volume": (Volume, noise(2, 3, 4, 6, 6)),
    "time shift": (TimeShift, noise(2, 4, 3, 6, 6)),
    "style": (Style, (picture(side=6), picture(side=6, seed=2), noise(2, 5))),
    "fixed blur": (Harmonic, picture(side=8)),
}  # fmt: skip


test_half_of_everything_goes_and_small_equals_masked, test_each_axis_goes_alone = laws(CASES)
