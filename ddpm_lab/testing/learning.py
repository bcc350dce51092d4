"""What the parts of a training step promise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_lab.testing.promises import PATHS, STD, normal_images, probes, promised, require, require_same


@promised("targets")
def targets(make: Callable[[float], Any]) -> None:
    target, images = make(STD), normal_images(dtype=torch.float64)
    for path in PATHS.values():
        alpha, sigma = (value[:, None, None, None] for value in path.at(torch.tensor([1.0, 10.0, 30.0, 45.0])))
        x0, eps = next(images), next(images)
        prediction = target.of(x0, eps, alpha, sigma)
        require(prediction.shape == x0.shape, "a target has the shape of the image")
        back = target.split(prediction, alpha * x0 + sigma * eps, alpha, sigma)
        require(all(torch.allclose(a, b, atol=1e-6) for a, b in zip(back, (x0, eps), strict=True)), "split undoes of")
        scale, label = target.condition(alpha, sigma, torch.zeros(4, dtype=torch.float64))
        require(bool((scale > 0).all()) and label.shape == (4,), "condition gives a positive scale and a label [B]")


@probes("targets")
def _probe_target(make: Callable[[float], Any]) -> Tensor:
    images = normal_images(dtype=torch.float64)
    return make(STD).of(next(images), next(images), torch.tensor(0.6), torch.tensor(0.8))  # type: ignore[no-any-return]


@promised("losses")
def losses(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    for dtype in (torch.float32, torch.float64):
        images = normal_images(dtype=dtype)
        prediction, target = next(images).requires_grad_(), next(images)
        found = loss(prediction, target)
        require(found.shape == prediction.shape, "a loss is elementwise, [B, C, H, W]")
        require(found.dtype == dtype, "a loss keeps the dtype of its input")
        require(bool((found >= 0).all()), "a loss is not negative")
        require_same(found, loss(prediction, target), "a loss")
        found.sum().backward()  # type: ignore[no-untyped-call]
        require(bool(prediction.grad is not None and prediction.grad.isfinite().all()), "a loss has a finite gradient")
        require(float(loss(target, target).abs().max()) < 1e-6, "a loss is 0 where the prediction is right")
        far = loss(target + 3, target).mean()
        require(bool(far > loss(target + 0.1, target).mean()), "a loss grows with the error")


probes("losses")(lambda loss: loss(torch.linspace(-3, 3, 50), torch.zeros(50)))


@promised("weightings")
def weightings(make: Callable[[float], Any]) -> None:
    weighting = make(STD)
    require(weighting.space in ("x0", "eps", "target"), "a weighting declares its space")
    declared = getattr(weighting, "per_log_snr", False)
    require(isinstance(declared, bool), "`per_log_snr` is true or false: whether the weight is divided by the levels' density")
    log_snr = torch.linspace(-10, 10, 21, dtype=torch.float64)
    weight = weighting(log_snr, torch.full_like(log_snr, -20.0))
    if declared and not isinstance(weighting, nn.Module):
        steeper = weighting(log_snr, torch.full_like(log_snr, -40.0))
        require(torch.equal(weight, steeper), "a weight over log SNR does not depend on the path's slope")
    require(weight.shape == log_snr.shape, "a weight is [B]")
    require(bool(weight.isfinite().all()), "a weight is finite at log SNRs from -10 to 10")
    require(isinstance(weighting, nn.Module) or bool((weight >= 0).all()), "a weight is not negative")
    require_same(weight, weighting(log_snr, torch.full_like(log_snr, -20.0)), "a weight")


@probes("weightings")
def _probe_weighting(make: Callable[[float], Any]) -> Tensor:
    weighting = make(STD)
    if isinstance(weighting, nn.Module):
        return torch.tensor([parameter.numel() for parameter in weighting.parameters()])
    log_snr = torch.linspace(-10, 10, 21, dtype=torch.float64)
    return weighting(log_snr, torch.full_like(log_snr, -20.0))  # type: ignore[no-any-return]


@promised("variances")
def variances(make: Callable[[], Any]) -> None:
    variance = make()
    for path in PATHS.values():
        alpha, sigma = path.at(torch.tensor([30.0, 20.0]))
        step = (alpha[0], sigma[0], alpha[1], sigma[1])
        extra = torch.zeros(4, 1, 8, 8) if variance.extra_channels else None
        found = variance(*step, extra)
        require(bool((found > 0).all()), "the variance of a step is positive")
        require(float(found.max()) <= 1.0001 * float(sigma[0] ** 2), "the variance of a step is at most that of its beginning")


probes("variances")(lambda make: torch.tensor(make().bound))


@promised("backbones", sourced=False)
def backbones(make: Callable[..., nn.Module]) -> None:
    for channels, classes, channels_out in ((1, None, 1), (3, 5, 6)):
        torch.manual_seed(0)
        network = make((channels, 16, 16), classes, channels_out)
        x, label = torch.randn(3, channels, 16, 16), torch.tensor([0.0, 300.0, 999.0])
        y = None if classes is None else torch.tensor([0, classes - 1, classes])
        found = network(x, label, y)
        require(found.shape == (3, channels_out, 16, 16), "a backbone gives [B, channels_out, H, W]")
        alone = network(x[1:2], label[1:2], None if y is None else y[1:2])
        require(torch.allclose(found[1:2], alone, atol=1e-4), "an image does not depend on its neighbours in the batch")
        # After a step, for parts that begin at zero keep others from their gradient.
        for _ in range(2):
            (network(x, label, y) * torch.randn(3, channels_out, 16, 16)).sum().backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.01 * parameter.grad)
        left_out = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        require(not left_out, f"the gradient reaches every parameter, not all but {left_out}")


@probes("backbones")
def _probe_backbone(make: Callable[..., nn.Module]) -> Tensor:
    """What it gives, in evaluation and in training, and how much of it training keeps for the backward pass."""
    torch.manual_seed(0)
    network, rng = make((1, 16, 16), None, 1), torch.Generator().manual_seed(0)
    with torch.no_grad():  # all of it, because networks begin at 0
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
    inputs = torch.randn(2, 1, 16, 16, generator=rng), torch.tensor([10.0, 500.0]), None
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    seen = network.eval()(*inputs).detach()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trained = network.train()(*inputs).detach()
    return torch.cat([seen.flatten(), trained.flatten(), torch.tensor([float(sum(kept))])])


@promised("optimizers", sourced=False)
def optimizers(make: Callable[..., torch.optim.Optimizer]) -> None:
    def walked(steps: int, rate: float, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Where `steps` down a parabola lead from 0.5, at a rate that is set from outside, and the state there."""
        weights = nn.Parameter(torch.full((20, 20), 0.5) + torch.eye(20))
        optimizer = make([weights], 0.5)
        require(isinstance(optimizer, torch.optim.Optimizer), "an optimizer is a torch.optim.Optimizer")
        if state is not None:
            optimizer.load_state_dict(state)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for _ in range(steps):
            optimizer.zero_grad()
            require(weights.grad is None or not bool(weights.grad.any()), "zero_grad forgets the gradients")
            weights.square().sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return weights.detach(), copy.deepcopy(optimizer.state_dict())

    start, (there, state) = walked(0, 0.0)[0], walked(8, 0.01)
    require(float(there.norm()) < float(start.norm()), "an optimizer descends a parabola")
    require_same(there, walked(8, 0.01)[0], "a step")
    require(not torch.equal(there, walked(8, 0.02)[0]), "the learning rate is read from param_groups at each step")
    require_same(walked(4, 0.01, state)[0], walked(4, 0.01, walked(8, 0.01)[1])[0], "a step after the state was loaded")


@probes("optimizers")
def _probe_optimizer(make: Callable[..., torch.optim.Optimizer]) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    weights = nn.Parameter(torch.randn(48, 20, generator=rng))
    optimizer = make([weights], 0.01)
    for _ in range(4):
        weights.grad = 0.01 * torch.randn(48, 20, generator=rng)
        optimizer.step()
    return weights.detach()


@promised("averages")
def averages(make: Callable[[], Callable[[int, int], float]]) -> None:
    decay = make()
    found = [decay(32 * step, 32) for step in range(1, 200)]
    require(all(0 <= one < 1 for one in found), "a decay lies in [0, 1)")
    require(all(a <= b for a, b in pairwise(found)), "a decay does not fall: the longer the run, the longer its memory")


probes("averages")(lambda make: torch.tensor([make()(32 * step, 32) for step in range(1, 200)]))
