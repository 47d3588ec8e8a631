"""A small U-Net with a feature pyramid, made to train on a CPU.

Residual encoder down to 1/32 of the input, where one position sees the whole crop, and a decoder that adds each encoder
level back on the way up (Ronneberger et al. 2015; Lin et al., "Feature Pyramid Networks", 2017). Plain 3x3
convolutions: on a CPU in bf16 they run closer to the arithmetic peak than depth-wise ones.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional

COARSEST = 32  # input pixels per cell of the coarsest level


def conv_block(channels_in: int, channels_out: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; padding keeps the size at ``stride`` 1."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_block(channels, channels)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)  # starts as the identity, which makes the first steps stable
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return self.activation(features + self.second(self.first(features)))


class FeaturePyramid(nn.Module):
    """Encoder and decoder; :meth:`forward` gives the finest level (1/4) and the coarsest one (1/32).

    Args:
        channels: width of the levels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input.
        blocks: residual blocks at 1/4, 1/8, 1/16 and 1/32.
    """

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = conv_block(3, channels[0], stride=2)
        self.levels = nn.ModuleList(
            nn.Sequential(conv_block(before, after, stride=2), *(ResidualBlock(after) for _ in range(count)))
            for before, after, count in zip(channels[:-1], channels[1:], blocks, strict=True)
        )
        pairs = list(itertools.pairwise(channels[1:]))
        self.lateral = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairs)
        self.merge = nn.ModuleList(conv_block(fine, fine) for fine, _ in pairs)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S), S a multiple of 32, to (B, C1, S/4, S/4) and (B, C4, S/32, S/32)."""
        encoded = self.encode(images)
        features = encoded[-1]
        for index in reversed(range(len(self.lateral))):
            features = self.merge[index](encoded[index] + self.upsample(self.lateral[index](features)))
        return features, encoded[-1]

    def encode(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), multiples of 32, to the levels at 1/4, 1/8, 1/16 and 1/32 of the way down."""
        features = self.stem(images)
        encoded = []
        for level in self.levels:
            features = level(features)
            encoded.append(features)
        return encoded

    def window_presence(self, presence: nn.Linear, images: Tensor, side: int) -> Tensor:
        """Logits (B, h, w) of ``presence``, a map of the coarsest level's mean, in all windows of ``side`` x ``side``.

        Windows are :data:`COARSEST` pixels apart; the first begins at the image's corner. They see over their edges,
        where a crop by itself sees nothing.
        """
        logits = functional.conv2d(self.encode(images)[-1].float(), presence.weight[..., None, None])
        return functional.avg_pool2d(logits, side // COARSEST, 1)[:, 0] + presence.bias
