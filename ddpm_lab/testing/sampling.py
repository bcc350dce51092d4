"""What samplers and guidance promise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ddpm_lab.testing.promises import PATHS, conditional, normal_images, perfect, probes, promised, require, require_same
from registry.samplers import Denoised, Grid
from registry.variances import VARIANCES


@promised("samplers")
def samplers(sample: Callable[..., Tensor]) -> None:
    variance = VARIANCES.configure("fixed_small", {})()
    for kind, path in PATHS.items():
        for steps in (1, 2, 20):
            grid = Grid(path, torch.linspace(49, 0, steps, dtype=torch.float64), variance)
            first, again = (sample(perfect(path), grid, normal_images(2).__next__) for _ in range(2))
            require(first.shape == (2, 1, 8, 8) and first.dtype == torch.float32, "a sampler gives images like its noise")
            require(bool(first.isfinite().all()), f"images are finite after {steps} steps on a {kind} path")
            require_same(first, again, "what is sampled from the same noise")
        require(0.2 < float(first.std()) < 1.0, f"a sampler lands near the data on a {kind} path")


@probes("samplers")
def _probe_sampler(sample: Callable[..., Tensor]) -> Tensor:
    sampled = []
    for path in PATHS.values():
        grid = Grid(path, torch.linspace(45, 0, 12, dtype=torch.float64), VARIANCES.configure("fixed_small", {})())
        sampled.append(sample(perfect(path), grid, normal_images(2).__next__))
    return torch.cat(sampled)


@promised("guidance")
def guidance(make: Callable[..., Callable[..., Denoised]]) -> None:
    for path in PATHS.values():
        guided = make(conditional(path), path, lambda _, path=path: conditional(path))
        x, level = next(normal_images(dtype=torch.float64)), torch.tensor(20.0)
        alpha, sigma = path.at(level)
        for y in (None, torch.zeros(4, dtype=torch.long)):
            found = guided(x, level, y)
            require(found.x0.shape == x.shape, "guidance keeps the shape")
            require(
                torch.allclose(alpha * found.x0 + sigma * found.eps, x, atol=1e-6), "guidance keeps x_t = alpha x0 + sigma eps"
            )


@probes("guidance")
def _probe_guidance(make: Callable[..., Callable[..., Denoised]]) -> Tensor:
    path = PATHS["variance_preserving"]

    def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        x0, _, _ = perfect(path)(x, level)
        x0 = x0 * (1.0 if y is None else 1.5)
        alpha, sigma = path.at(level)
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    poor = conditional(path)
    guided, x = make(denoise, path, lambda name: poor if name == "there" else denoise), next(normal_images(dtype=torch.float64))
    return torch.cat([guided(x, torch.tensor(level), torch.zeros(4, dtype=torch.long)).x0 for level in (2.0, 20.0, 45.0)])
