"""What a cheap camera does to an image, in batches on any device: exposure, colour, blur, noise, compression.

All functions take and give (B, 3, H, W) float images and draw what is random for each image from a generator on
the images' device. Costly effects are applied to a random part of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional

_KERNEL = 7  # pixels; wider blur is a matter of scaling down and up
_NOISE_SIDE = 704  # enough for 640x480
Effect = Callable[[Tensor, Generator, float], Tensor]


def apply_camera_effects(images: Tensor, generator: Generator, strength: float = 1.0) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] as a real camera could have taken them, in [0, 1].

    Args:
        images: what a perfect camera sees.
        generator: on the device of the images.
        strength: 1 for the range of real cameras, 0 leaves the images as they are.
    """
    if strength <= 0.0:
        return images.clamp(0.0, 1.0)
    images = uneven_light(images, generator, strength)
    images = _on_part(images, 0.25, low_resolution, generator, strength)
    images = _on_part(images, 0.35, blur, generator, strength)
    images = color_response(images, generator, strength)
    images = sensor_noise(images, generator, strength)
    return _on_part(images, 0.3, compression, generator, strength).clamp_(0.0, 1.0)


def _on_part(images: Tensor, share: float, effect: Effect, generator: Generator, strength: float) -> Tensor:
    """Apply an effect to about ``share`` of the batch, chosen at random."""
    chosen = (uniform(images, generator, len(images)) < share).nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    return images.index_copy_(0, chosen, effect(images.index_select(0, chosen), generator, strength))


def uniform(like: Tensor, generator: Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers on the device and of the type of another tensor."""
    return torch.rand(*shape, generator=generator, device=like.device, dtype=like.dtype) * (high - low) + low


def normal(like: Tensor, generator: Generator, *shape: int) -> Tensor:
    """Standard normal numbers on the device and of the type of another tensor."""
    return torch.randn(*shape, generator=generator, device=like.device, dtype=like.dtype)


def uneven_light(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Multiply with a smooth field: vignettes, patches of sun, soft shadows."""
    count, _, height, width = images.shape
    depth = 0.22 * strength * uniform(images, generator, count, 1, 1, 1)
    field = torch.exp(depth * normal(images, generator, count, 1, 5, 5))
    return images * functional.interpolate(field, (height, width), mode="bilinear", align_corners=False)


def color_response(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """White balance, saturation, contrast, exposure (often too bright), gamma-like curve and washed-out blacks.

    The linear part of all is one 3x4 matrix an image. Over-exposed images clip, as sensors do.
    """
    count = len(images)
    grey = images.new_tensor([0.299, 0.587, 0.114])
    eye = torch.eye(3, device=images.device, dtype=images.dtype)
    saturation = torch.exp(0.35 * strength * normal(images, generator, count, 1, 1)).clamp(0.2, 2.2)
    balance = torch.exp(0.09 * strength * normal(images, generator, count, 3))
    gain = torch.exp(0.3 * strength * normal(images, generator, count, 1, 1) + 0.05 * strength)
    matrix = gain * torch.diag_embed(balance) @ (saturation * eye + (1.0 - saturation) * grey.expand(3, 3))
    wash_out = 0.25 * strength * uniform(images, generator, count, 1, 1) ** 3
    black = 0.05 * strength * normal(images, generator, count, 1, 1)
    flat = torch.baddbmm(wash_out + black, matrix * (1.0 - wash_out), images.flatten(2))
    flat = flat.clamp_(0.0, 1.0)
    # x + b x (1 - x) bends the curve like a gamma between 1/2 and 2 without a power function
    bend = (0.45 * strength * normal(images, generator, count, 1, 1)).clamp_(-0.85, 0.85)
    return (flat * (1.0 + bend - bend * flat)).view_as(images)


def blur(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Defocus (a Gaussian) or motion (a line) of up to ``_KERNEL`` pixels, its own for each image."""
    count, channels, height, width = images.shape
    axis = torch.arange(_KERNEL, device=images.device, dtype=images.dtype) - _KERNEL // 2
    angle = uniform(images, generator, count, 1, 1, high=math.pi)
    along = angle.cos() * axis + angle.sin() * axis[:, None]
    across = angle.cos() * axis[:, None] - angle.sin() * axis
    sigma = 0.3 + 1.3 * strength * uniform(images, generator, count, 1, 1) ** 1.5
    moving = uniform(images, generator, count, 1, 1) < 0.5
    long = torch.where(moving, 0.3 + 2.5 * strength * uniform(images, generator, count, 1, 1), sigma)
    short = torch.where(moving, 0.45, sigma)
    kernel = torch.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))
    kernel = kernel / kernel.sum(dim=(1, 2), keepdim=True)
    kernel = kernel[:, None].expand(count, channels, _KERNEL, _KERNEL).reshape(-1, 1, _KERNEL, _KERNEL)
    padded = functional.pad(images, (_KERNEL // 2,) * 4, mode="replicate").view(1, -1, height + 6, width + 6)
    return functional.conv2d(padded, kernel, groups=count * channels).view_as(images)


def low_resolution(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Scale down and up again, as when the object is far away; one factor for the whole batch."""
    height, width = images.shape[-2:]
    factor = 1.0 - 0.7 * min(strength, 1.0) * float(uniform(images, generator, 1))
    small = (max(8, round(height * factor)), max(8, round(width * factor)))
    lower = functional.interpolate(images, small, mode="bilinear", align_corners=False, antialias=True)
    return functional.interpolate(lower, (height, width), mode="bilinear", align_corners=False)


def sensor_noise(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """Gaussian noise, a part of it in blotches of two pixels and grey, as after demosaicing and noise reduction."""
    count, channels, height, width = images.shape
    sigma = 0.05 * strength * uniform(images, generator, count, 1, 1, 1) ** 2 + 0.002
    if max(height, width) > _NOISE_SIDE - 32:
        return torch.addcmul(images, normal(images, generator, count, channels, height, width), sigma)
    bank = _noise_bank(images.device, images.dtype)
    limits = images.new_tensor([len(bank), _NOISE_SIDE - height + 1, _NOISE_SIDE - width + 1])
    starts = (uniform(images, generator, count, 3) * limits).long().tolist()
    noise = torch.stack([bank[style, :, y : y + height, x : x + width] for style, y, x in starts])
    return torch.addcmul(images, noise, sigma)


_noise_banks: dict[tuple[torch.device, torch.dtype], Tensor] = {}


def _noise_bank(device: torch.device, dtype: torch.dtype) -> Tensor:
    """(3, 3, side, side) unit-variance noise: fine, blotchy, grey. Windows of it are much cheaper than new noise."""
    if (device, dtype) not in _noise_banks:
        generator = torch.Generator().manual_seed(0)
        fine = torch.randn(1, 3, _NOISE_SIDE, _NOISE_SIDE, generator=generator)
        blotchy = functional.avg_pool2d(functional.pad(fine, (0, 1, 0, 1), mode="circular"), 2, 1) * 2.0
        grey = (0.6 * fine + 0.8 * fine[:, :1].roll(7, -1)).expand_as(fine)
        _noise_banks[device, dtype] = torch.cat([fine, blotchy, grey]).to(device=device, dtype=dtype)
    return _noise_banks[device, dtype]


def compression(images: Tensor, generator: Generator, strength: float) -> Tensor:
    """JPEG's loss: the 8x8 cosine transform of brightness and colour, rounded to coarse steps (ITU T.81, annex K)."""
    count, channels, height, width = images.shape
    pad = ((-width) % 8, (-height) % 8)
    padded = functional.pad(images, (0, pad[0], 0, pad[1]), mode="replicate")
    rows, columns = padded.shape[2] // 8, padded.shape[3] // 8
    blocks = padded.view(count, channels, rows, 8, columns, 8).permute(0, 2, 4, 1, 3, 5).reshape(count, -1, 3, 64)
    to_ycc, transform, table = (part.to(images) for part in _JPEG)
    quality = uniform(images, generator, count, 1, 1, 1, low=0.1, high=0.1 + 0.8 * min(strength, 1.0))
    step = table / (255.0 * quality.clamp_min(0.05)) * 0.3
    spectrum = (to_ycc @ blocks) @ transform.T
    restored = (torch.round(spectrum / step) * step) @ transform
    blocks = torch.linalg.inv(to_ycc) @ restored
    padded = blocks.view(count, rows, columns, 3, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(padded.shape)
    return padded[..., :height, :width]


def _jpeg_constants() -> tuple[Tensor, Tensor, Tensor]:
    """RGB to YCbCr (3, 3), the 2D cosine transform of a flattened block (64, 64), quantisation (3, 64) for 8 bits."""
    to_ycc = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    k = torch.arange(8.0)
    cosine = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2.0)
    frequency = k[:, None] + k
    luminance = 10.0 + 3.2 * frequency**1.5  # a smooth stand-in for annex K's tables
    chrominance = torch.clamp(17.0 + 14.0 * frequency, max=99.0)
    return to_ycc, torch.kron(cosine, cosine), torch.stack([luminance, chrominance, chrominance]).reshape(3, 64)


_JPEG = _jpeg_constants()
