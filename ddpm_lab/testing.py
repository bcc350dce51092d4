"""What a part promises, checked: `conforms(MyLoss)` is a whole test of a new part.

    from ddpm_lab.testing import conforms

    def test_my_loss() -> None:
        conforms(my_loss, scale=0.5)

It raises an AssertionError that says which promise is broken. The options are those that the part needs to be built, and those
without which others have nothing to do: `conforms(euler, churn=10.0)`, because `s_min` is the place of the churn.
"""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from registry.datasets import ImageSet
from registry.errors import BadInput
from registry.features import MadeFor, made_for
from registry.levels import AdaptiveLevels, KnownLevels
from registry.path import NoisePath
from registry.plugins import SHELVES
from registry.samplers import Denoised, Grid
from registry.shelf import Part, Shelf
from registry.variances import VARIANCES

_T = torch.arange(1, 51, dtype=torch.float64) / 50  # ends in pure noise
PATHS = {
    "variance_preserving": NoisePath(torch.linspace(0.02, 1.55, 50), "variance_preserving"),
    "flow": NoisePath(torch.atan2(_T, 1 - _T), "flow"),
    "variance_exploding": NoisePath(torch.linspace(0.02, 1.55, 50), "variance_exploding"),
}
SOURCED = {"schedules", "levels", "targets", "losses", "weightings", "variances", "samplers", "grids", "guidance", "averages"}
STD = 0.7


def conforms(part: Callable[..., Any], **options: Any) -> None:
    """Check a registered part against all that its shelf promises.

    Raises:
        AssertionError: it breaks a promise; the text says which.
    """
    name, shelf, found = _placed(part)
    _require(bool(found.summary), "its docstring says what it is")
    if name in SOURCED:
        said = re.search(r"\b(18|19|20)\d\d|\bno source\b", part.__doc__ or "", re.IGNORECASE)
        _require(bool(said), "its docstring names its source with the year, or says `no source` where the idea is new")
    CHECKS[name](shelf.configure(found.name, options))
    if name in PROBES:
        as_it_is = PROBES[name](shelf.configure(found.name, options))
        for option, value in shelf.check(found.name, options).items():
            others = list(_outcomes(PROBES[name], _changed(shelf, found.name, options, option, value)))
            honoured = any(other.shape != as_it_is.shape or not torch.equal(other, as_it_is) for other in others)
            _require(honoured, f"option {option} changes something")


def _placed(part: Callable[..., Any]) -> tuple[str, Shelf[Any], Part[Any]]:
    for name, shelf in SHELVES.items():
        for found in shelf:
            if found.make is part:
                return name, shelf, found
    raise AssertionError(f"{part!r} stands on no shelf; decorate it with @SHELF.register(name)")


def _changed(shelf: Shelf[Any], name: str, options: dict[str, Any], option: str, value: Any) -> Iterator[Callable[..., Any]]:
    """The part with other values of one option, as far as its signature takes them.

    One that is null may exclude another, which is then null in its place.
    """
    freed: list[dict[str, Any]] = [{}]
    if isinstance(value, bool):
        tried: list[Any] = [not value]
    elif isinstance(value, (int, float)):
        tried = [value + 1, 2 * value, value / 2, value // 2, value - 1, int(value) + 1, 0.3, 0.7]
    elif isinstance(value, (list, tuple)) and all(isinstance(one, (int, float)) for one in value):
        tried = [[2 * one for one in value], [one + 1 for one in value], [one / 50 for one in value], None]
    else:
        tried = [0.3, 0.7, "another", 2, [8], *_literals(shelf.part(name).schema.model_fields[option].annotation)]
        freed += [{key: None} for key in options if key != option and value is None]
    for other in tried:
        for null in freed:
            try:
                yield shelf.configure(name, {**options, option: other, **null})
            except BadInput:
                continue


def _literals(hint: Any) -> Iterator[Any]:
    """The values that `Literal` lists, anywhere in an annotation."""
    for inner in typing.get_args(hint):
        yield from [inner] if typing.get_origin(hint) is typing.Literal else _literals(inner)


def _outcomes(probe: Callable[[Callable[..., Any]], Tensor], parts: Iterator[Callable[..., Any]]) -> Iterator[Tensor]:
    for part in parts:
        try:
            yield probe(part)
        except ValueError:  # BadInput is one: values that the signature takes, and the part does not
            continue


def _require(kept: bool, promise: str) -> None:
    if not kept:
        raise AssertionError(f"broken promise: {promise}")


def _require_same(one: Tensor, other: Tensor, promise: str) -> None:
    _require(torch.equal(one, other), f"{promise} is the same when it is computed again")


def _images(count: int = 4, channels: int = 1, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """Standard normal images, others each time."""
    rng = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(count, channels, 8, 8, generator=rng, dtype=dtype)


def _loss(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    for dtype in (torch.float32, torch.float64):
        images = _images(dtype=dtype)
        prediction, target = next(images).requires_grad_(), next(images)
        found = loss(prediction, target)
        _require(found.shape == prediction.shape, "a loss is elementwise, [B, C, H, W]")
        _require(found.dtype == dtype, "a loss keeps the dtype of its input")
        _require(bool((found >= 0).all()), "a loss is not negative")
        _require_same(found, loss(prediction, target), "a loss")
        found.sum().backward()  # type: ignore[no-untyped-call]
        _require(bool(prediction.grad is not None and prediction.grad.isfinite().all()), "a loss has a finite gradient")
        _require(float(loss(target, target).abs().max()) < 1e-6, "a loss is 0 where the prediction is right")
        far = loss(target + 3, target).mean()
        _require(bool(far > loss(target + 0.1, target).mean()), "a loss grows with the error")


def _schedule(make: Callable[[int], NoisePath]) -> None:
    for steps in (10, 200, 1000):
        path = make(steps)
        _require(isinstance(path, NoisePath) and path.steps == steps, "a schedule gives a NoisePath of T knots")
        level = torch.linspace(0, steps - 1, 64, dtype=torch.float64)
        alpha, sigma = path.at(level)
        _require(
            bool(((path.curve.length(alpha, sigma) - 1).abs() < 1e-9).all()),
            f"a {path.kind} path stays on its curve between the knots",
        )
        _require(bool((path.log_snr(level).diff() < 0).all()), "the log SNR falls")
        inner = level[1:-1]
        _require(bool(((path.level(path.log_snr(inner)) - inner).abs() < 1e-4).all()), "level undoes log_snr")


def _levels(make: Callable[[NoisePath], Any]) -> None:
    for path in PATHS.values():
        for count in (1, 64):
            levels = make(path)
            level, importance = levels(count, torch.Generator().manual_seed(1))
            again, _ = levels(count, torch.Generator().manual_seed(1))
            other, _ = levels(count, torch.Generator().manual_seed(2))
            _require(level.shape == importance.shape == (count,), "levels and importance are [count]")
            _require(level.dtype == torch.float64, "levels are float64")
            _require(float(level.min()) >= 0 and float(level.max()) <= path.steps - 1, "levels lie in [0, T - 1]")
            _require(bool((importance > 0).all()), "importance is positive")
            _require_same(level, again, "a draw from the same generator")
            _require(not torch.equal(level, other), "another generator gives other levels")
            if isinstance(levels, KnownLevels):
                density = levels.density(level)
                _require(density.shape == level.shape and bool((density >= 0).all()), "a density is [count], and not negative")
            if isinstance(levels, AdaptiveLevels):
                levels.update(level, torch.ones(count))
                fresh = make(path)
                fresh.load_state_dict(levels.state_dict())
                _require_same(
                    levels(8, torch.Generator().manual_seed(3))[0], fresh(8, torch.Generator().manual_seed(3))[0],
                    "a draw after the state was loaded",
                )  # fmt: skip
    _levels_density(make)


def _levels_density(make: Callable[[NoisePath], Any]) -> None:
    """What a density says of how many levels lie below each, against those that are sampled."""
    for kind, path in PATHS.items():
        levels = make(path)
        _require(
            isinstance(levels, KnownLevels),
            "levels give their density over log SNR; without `density` they cannot be used with what is declared over log SNR",
        )
        level, _ = levels(4096, torch.Generator().manual_seed(4))
        level = level[levels.density(level).isfinite()].sort().values  # those that are not at one point, such as an end
        fine = torch.linspace(1e-6, path.steps - 1 - 1e-6, 20_001, dtype=torch.float64)
        per_level = (levels.density(fine) * -path.log_snr_slope(fine)).nan_to_num(0.0)
        below = torch.cumulative_trapezoid(per_level, fine)
        expected = below[(torch.searchsorted(fine, level) - 1).clamp(0, len(below) - 1)]
        found = torch.arange(1, len(level) + 1) / 4096
        # Kolmogorov and Smirnov: of 4096 levels 0.025 is exceeded by chance once in a hundred times, 0.04 once in a million.
        same = bool(((found - expected).abs() < 0.04).all()) and abs(float(below[-1]) - len(level) / 4096) < 0.04
        _require(same, f"the density is that of the levels that are sampled, on a {kind} path")


def _target(make: Callable[[float], Any]) -> None:
    target, images = make(STD), _images(dtype=torch.float64)
    for path in PATHS.values():
        alpha, sigma = (value[:, None, None, None] for value in path.at(torch.tensor([1.0, 10.0, 30.0, 45.0])))
        x0, eps = next(images), next(images)
        prediction = target.of(x0, eps, alpha, sigma)
        _require(prediction.shape == x0.shape, "a target has the shape of the image")
        back = target.split(prediction, alpha * x0 + sigma * eps, alpha, sigma)
        _require(all(torch.allclose(a, b, atol=1e-6) for a, b in zip(back, (x0, eps), strict=True)), "split undoes of")
        scale, label = target.condition(alpha, sigma, torch.zeros(4, dtype=torch.float64))
        _require(bool((scale > 0).all()) and label.shape == (4,), "condition gives a positive scale and a label [B]")


def _weighting(make: Callable[[float], Any]) -> None:
    weighting = make(STD)
    _require(weighting.space in ("x0", "eps", "target"), "a weighting declares its space")
    declared = getattr(weighting, "per_log_snr", False)
    _require(isinstance(declared, bool), "`per_log_snr` is true or false: whether the weight is divided by the levels' density")
    log_snr = torch.linspace(-10, 10, 21, dtype=torch.float64)
    weight = weighting(log_snr, torch.full_like(log_snr, -20.0))
    if declared and not isinstance(weighting, nn.Module):
        steeper = weighting(log_snr, torch.full_like(log_snr, -40.0))
        _require(torch.equal(weight, steeper), "a weight over log SNR does not depend on the path's slope")
    _require(weight.shape == log_snr.shape, "a weight is [B]")
    _require(bool(weight.isfinite().all()), "a weight is finite at log SNRs from -10 to 10")
    _require(isinstance(weighting, nn.Module) or bool((weight >= 0).all()), "a weight is not negative")
    _require_same(weight, weighting(log_snr, torch.full_like(log_snr, -20.0)), "a weight")


def _variance(make: Callable[[], Any]) -> None:
    variance = make()
    for path in PATHS.values():
        alpha, sigma = path.at(torch.tensor([30.0, 20.0]))
        step = (alpha[0], sigma[0], alpha[1], sigma[1])
        extra = torch.zeros(4, 1, 8, 8) if variance.extra_channels else None
        found = variance(*step, extra)
        _require(bool((found > 0).all()), "the variance of a step is positive")
        _require(float(found.max()) <= 1.0001 * float(sigma[0] ** 2), "the variance of a step is at most that of its beginning")


def _backbone(make: Callable[..., nn.Module]) -> None:
    for channels, classes, channels_out in ((1, None, 1), (3, 5, 6)):
        torch.manual_seed(0)
        network = make((channels, 16, 16), classes, channels_out)
        x, label = torch.randn(3, channels, 16, 16), torch.tensor([0.0, 300.0, 999.0])
        y = None if classes is None else torch.tensor([0, classes - 1, classes])
        found = network(x, label, y)
        _require(found.shape == (3, channels_out, 16, 16), "a backbone gives [B, channels_out, H, W]")
        alone = network(x[1:2], label[1:2], None if y is None else y[1:2])
        _require(torch.allclose(found[1:2], alone, atol=1e-4), "an image does not depend on its neighbours in the batch")
        # After a step, for parts that begin at zero keep others from their gradient.
        for _ in range(2):
            (network(x, label, y) * torch.randn(3, channels_out, 16, 16)).sum().backward()
            with torch.no_grad():
                for parameter in network.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.01 * parameter.grad)
        left_out = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        _require(not left_out, f"the gradient reaches every parameter, not all but {left_out}")


def _perfect(path: NoisePath) -> Callable[[Tensor, Tensor], Denoised]:
    def denoise(x: Tensor, level: Tensor) -> Denoised:
        alpha, sigma = path.at(level)
        x0 = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    return denoise


def _sampler(sample: Callable[..., Tensor]) -> None:
    variance = VARIANCES.configure("fixed_small", {})()
    for kind, path in PATHS.items():
        for steps in (1, 2, 20):
            grid = Grid(path, torch.linspace(49, 0, steps, dtype=torch.float64), variance)
            first, again = (sample(_perfect(path), grid, _images(2).__next__) for _ in range(2))
            _require(first.shape == (2, 1, 8, 8) and first.dtype == torch.float32, "a sampler gives images like its noise")
            _require(bool(first.isfinite().all()), f"images are finite after {steps} steps on a {kind} path")
            _require_same(first, again, "what is drawn from the same noise")
        _require(0.2 < float(first.std()) < 1.0, f"a sampler lands near the data on a {kind} path")


def _grid(make: Callable[[NoisePath, int], Tensor]) -> None:
    for count in (1, 2, 20):
        levels = make(PATHS["variance_preserving"], count)
        _require(levels.shape == (count,) and levels.dtype == torch.float64, "a grid gives levels [count] in float64")
        _require(bool((levels.diff() < 0).all()), "a grid goes down, noisiest first")
        _require(float(levels[-1]) >= 0 and float(levels[0]) <= 49, "levels lie in [0, T - 1]")


def _conditional(path: NoisePath) -> Callable[..., Denoised]:
    return lambda x, level, y: _perfect(path)(x, level)


def _guidance(make: Callable[..., Callable[..., Denoised]]) -> None:
    for path in PATHS.values():
        guided = make(_conditional(path), path, lambda _, path=path: _conditional(path))
        x, level = next(_images(dtype=torch.float64)), torch.tensor(20.0)
        alpha, sigma = path.at(level)
        for y in (None, torch.zeros(4, dtype=torch.long)):
            found = guided(x, level, y)
            _require(found.x0.shape == x.shape, "guidance keeps the shape")
            _require(
                torch.allclose(alpha * found.x0 + sigma * found.eps, x, atol=1e-6), "guidance keeps x_t = alpha x0 + sigma eps"
            )


def _optimizer(make: Callable[..., torch.optim.Optimizer]) -> None:
    def walked(steps: int, rate: float, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Where `steps` down a parabola lead from 0.5, at a rate that is set from outside, and the state there."""
        weights = nn.Parameter(torch.full((20, 20), 0.5) + torch.eye(20))
        optimizer = make([weights], 0.5)
        _require(isinstance(optimizer, torch.optim.Optimizer), "an optimizer is a torch.optim.Optimizer")
        if state is not None:
            optimizer.load_state_dict(state)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for _ in range(steps):
            optimizer.zero_grad()
            _require(weights.grad is None or not bool(weights.grad.any()), "zero_grad forgets the gradients")
            weights.square().sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return weights.detach(), copy.deepcopy(optimizer.state_dict())

    start, (there, state) = walked(0, 0.0)[0], walked(8, 0.01)
    _require(float(there.norm()) < float(start.norm()), "an optimizer descends a parabola")
    _require_same(there, walked(8, 0.01)[0], "a step")
    _require(not torch.equal(there, walked(8, 0.02)[0]), "the learning rate is read from param_groups at each step")
    _require_same(walked(4, 0.01, state)[0], walked(4, 0.01, walked(8, 0.01)[1])[0], "a step after the state was loaded")


def _average(make: Callable[[], Callable[[int, int], float]]) -> None:
    decay = make()
    found = [decay(32 * step, 32) for step in range(1, 200)]
    _require(all(0 <= one < 1 for one in found), "a decay lies in [0, 1)")
    _require(all(a <= b for a, b in pairwise(found)), "a decay does not fall: the longer the run, the longer its memory")


def _dataset(make: Callable[[], ImageSet]) -> None:
    data = make()
    for split in (data.train, data.test):
        first = split.rows(torch.arange(min(len(split), 4)))
        _require(first.dtype == torch.uint8 and first.ndim == 4, "images are uint8 [N, C, H, W]")
        _require(tuple(first.shape[1:]) == data.image_shape, "images have the shape that the data set declares")
        if data.class_names is not None:
            labels = split.labels
            _require(labels is not None and int(labels.max()) < len(data.class_names), "each label has a name")
    _require(make().train.hash == data.train.hash, "the data are the same each time")


def _features(make: Callable[[], Any]) -> None:
    extractor = make()
    images = torch.randint(0, 256, (3, 3, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features, logits = extractor(images)
    _require(features.shape == (3, extractor.dimension), "features are [B, D], D being the extractor's `dimension`")
    k = None if logits is None else logits.shape[1]
    _require(k == extractor.classes, "logits are [B, K], K being the extractor's `classes`, or both are None")
    names = extractor.class_names
    _require(names is None or len(names) == k, "`class_names` has a name for each logit, or is None")
    early = made_for(getattr(make, "func", make))
    _require(
        isinstance(early, MadeFor) and early == made_for(extractor), "`made_for` is a MadeFor, and an attribute of the class"
    )
    _require(bool(extractor.hash and extractor.resize), "an extractor carries the hash of its weights and its resize rule")


def _probe_levels(make: Callable[[NoisePath], Any]) -> Tensor:
    levels = make(PATHS["variance_preserving"])
    for seed in range(40 if isinstance(levels, AdaptiveLevels) else 0):
        level, _ = levels(64, torch.Generator().manual_seed(seed))
        levels.update(level, level + seed)
    return torch.stack(levels(64, torch.Generator().manual_seed(0)))


def _probe_target(make: Callable[[float], Any]) -> Tensor:
    images = _images(dtype=torch.float64)
    return make(STD).of(next(images), next(images), torch.tensor(0.6), torch.tensor(0.8))  # type: ignore[no-any-return]


def _probe_weighting(make: Callable[[float], Any]) -> Tensor:
    weighting = make(STD)
    if isinstance(weighting, nn.Module):
        return torch.tensor([parameter.numel() for parameter in weighting.parameters()])
    log_snr = torch.linspace(-10, 10, 21, dtype=torch.float64)
    return weighting(log_snr, torch.full_like(log_snr, -20.0))  # type: ignore[no-any-return]


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


def _probe_sampler(sample: Callable[..., Tensor]) -> Tensor:
    drawn = []
    for path in PATHS.values():
        grid = Grid(path, torch.linspace(45, 0, 12, dtype=torch.float64), VARIANCES.configure("fixed_small", {})())
        drawn.append(sample(_perfect(path), grid, _images(2).__next__))
    return torch.cat(drawn)


def _probe_guidance(make: Callable[..., Callable[..., Denoised]]) -> Tensor:
    path = PATHS["variance_preserving"]

    def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Denoised:
        x0, _, _ = _perfect(path)(x, level)
        x0 = x0 * (1.0 if y is None else 1.5)
        alpha, sigma = path.at(level)
        return Denoised(x0, (x - alpha * x0) / sigma, None)

    poor = _conditional(path)
    guided, x = make(denoise, path, lambda name: poor if name == "there" else denoise), next(_images(dtype=torch.float64))
    return torch.cat([guided(x, torch.tensor(level), torch.zeros(4, dtype=torch.long)).x0 for level in (2.0, 20.0, 45.0)])


def _probe_optimizer(make: Callable[..., torch.optim.Optimizer]) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    weights = nn.Parameter(torch.randn(48, 20, generator=rng))
    optimizer = make([weights], 0.01)
    for _ in range(4):
        weights.grad = 0.01 * torch.randn(48, 20, generator=rng)
        optimizer.step()
    return weights.detach()


# What tells whether an option does anything; data sets and extractors are looked at as they are.
PROBES: dict[str, Callable[[Callable[..., Any]], Tensor]] = {
    "schedules": lambda make: make(200).angle,
    "levels": _probe_levels,
    "targets": _probe_target,
    "losses": lambda loss: loss(torch.linspace(-3, 3, 50), torch.zeros(50)),
    "weightings": _probe_weighting,
    "variances": lambda make: torch.tensor(make().bound),
    "backbones": _probe_backbone,
    "optimizers": _probe_optimizer,
    "samplers": _probe_sampler,
    "grids": lambda make: make(PATHS["variance_preserving"], 12),
    "guidance": _probe_guidance,
    "averages": lambda make: torch.tensor([make()(32 * step, 32) for step in range(1, 200)]),
}

CHECKS: dict[str, Callable[[Callable[..., Any]], None]] = {
    "schedules": _schedule, "levels": _levels, "targets": _target, "losses": _loss, "weightings": _weighting,
    "variances": _variance, "backbones": _backbone, "samplers": _sampler, "grids": _grid, "guidance": _guidance,
    "datasets": _dataset, "features": _features, "averages": _average,
    "optimizers": _optimizer,
}  # fmt: skip
