"""Training: the same seed gives the same weights, an interrupt loses nothing, and the network learns."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.storage.checkpoints import Checkpoint, Checkpoints
from ddpm_lab.storage.weights import load_weights
from ddpm_lab.training.callback import Callback
from ddpm_lab.training.loss import make_batch, training_loss
from ddpm_lab.training.trainer import Diverged, Trainer
from registry.errors import BadInput


def _trainer(*overrides: str) -> Trainer:
    experiment = load_recipe("smoke", ["train.images=320", *overrides]).experiment
    data = build_data(experiment)
    model = build_model(experiment, DataShape.of(data), torch.device("cpu"))
    return Trainer(experiment, model, build_objective(experiment, DataShape.of(data), model), data.train, "fp32")


def test_the_network_is_shown_the_noisy_images_of_diffusers() -> None:
    trainer = _trainer("train.batch=16")
    batch = trainer.batch(0)
    level = batch.level.round()
    seen: list[Tensor] = []

    def network(x: Tensor, label: Tensor, y: Tensor | None) -> Tensor:
        seen.append(x)
        return x

    training_loss(trainer.model, trainer.objective, network, batch._replace(level=level))
    scheduler = DDPMScheduler(1000)
    path = trainer.model.diffusion.path
    scheduler.alphas_cumprod = path.at(torch.arange(path.steps))[0] ** 2
    theirs = scheduler.add_noise(batch.x0.double(), batch.eps.double(), level.long())
    torch.testing.assert_close(seen[0].double(), theirs, rtol=1e-5, atol=1e-6)


def _rows(trainer: Trainer, rows: list[dict[str, float]]) -> Callback:
    return Callback(lambda _: rows.append(trainer.row()), trainer.images_per_row, at_end=True)


def _train(trainer: Trainer, *, stop_at: int | None = None, keep: Path | None = None) -> Trainer:
    def checkpoint(images: int) -> None:
        if images == stop_at and keep is not None:
            Checkpoints(keep).save(Checkpoint(images, 0, {}, STREAMS, trainer.state()), keep=1)

    every = trainer.experiment.train.checkpoint_every
    trainer.run([_rows(trainer, []), Callback(checkpoint, every)])
    return trainer


def _weights(trainer: Trainer) -> list[Tensor]:
    networks = [trainer.network, *(average.network for average in trainer.averages.values())]
    return [value for network in networks for value in network.state_dict().values()]


def _same(a: Trainer, b: Trainer) -> bool:
    return all(torch.equal(x, y) for x, y in zip(_weights(a), _weights(b), strict=True))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    assert _same(_train(_trainer()), _train(_trainer()))
    assert not _same(_train(_trainer()), _train(_trainer("seed=1")))


LEARNED = ["levels={name: importance, bins: 4, history: 2}", "weighting=uncertainty", "variance=learned_range"]
SEVERAL = ["train.ema=[{half_life: 96}, {name: power, std: 0.1}, {name: power, std: 0.25}]"]
DROPOUT = ["backbone={name: adm_unet, width: 32, multipliers: [1, 2], blocks: 1, head_channels: 32, dropout: 0.3}"]
JUMPS = ["objective={name: shortcut, share: 0.5}", "classes=true", "self_conditioning=true"]
HALVED = ["objective={name: progressive, steps: 8, halvings: 3}", "coupling=optimal_transport"]


@pytest.mark.parametrize(
    "options",
    [[], ["classes=true", "train.flip=true", "train.optimizer.name=SGD"], LEARNED, DROPOUT, SEVERAL, JUMPS, HALVED],
)
def test_a_run_resumed_from_a_checkpoint_ends_in_the_same_bits(tmp_path: Path, options: list[str]) -> None:
    options = [*options, "train.checkpoint_every=160"]
    whole = _train(_trainer(*options), stop_at=160, keep=tmp_path)
    resumed = _trainer(*options)
    found = Checkpoints(tmp_path).load()
    assert found is not None
    resumed.load_state(found.trainer)
    assert resumed.images == 160
    assert _same(whole, _train(resumed))


def test_the_teacher_of_a_stage_is_the_average_that_the_stage_before_ends_with() -> None:
    """Raw weights at the full learning rate are a worse teacher; without an average they are what there is."""
    for ema, source in (("{half_life: 96}", "ema"), ("null", "raw")):
        trainer = _trainer(*HALVED, f"train.ema={ema}")
        assert trainer.teacher is not None
        ends = [trainer.total * stage // 3 for stage in (1, 2)]
        while trainer.images < trainer.total:
            trainer.step(trainer.batch(trainer.images // 32))
            now = trainer.sampling_network(source).state_dict()
            same = all(torch.equal(one, now[key]) for key, one in trainer.teacher.network.state_dict().items())
            begun = any(trainer.images - 32 < end <= trainer.images for end in ends) or trainer.images == trainer.total
            assert same == begun, trainer.images
            trainer.network.train()


@pytest.mark.parametrize("options", [[], JUMPS, ["objective=mean_flow"], ["objective=consistency"]], ids=str)
def test_accumulation_gives_the_gradient_of_the_whole_batch(options: list[str]) -> None:
    whole, parts = _trainer(*options), _trainer(*options, "train.accumulate=4")
    for trainer in (whole, parts):
        batch = trainer.batch(0)
        trainer.optimizer.step = lambda: None  # type: ignore[assignment]
        trainer.optimizer.zero_grad = lambda set_to_none: None  # type: ignore[assignment]
        trainer.step(batch)
    for a, b in zip(whole.network.parameters(), parts.network.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    trainer = _trainer("classes=true", "train.flip=true")
    images, labels, train = trainer.data.images[:32], trainer.data.labels[:32], trainer.experiment.train  # type: ignore[index]
    first, again, later = (make_batch(images, labels, 3, trainer.objective, train, 0, step) for step in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))  # type: ignore[arg-type]
    assert not torch.equal(first.eps, later.eps)
    assert not torch.equal(first.level, later.level)


def test_labels_are_dropped_at_the_rate_asked_for_and_images_flipped_half_the_time() -> None:
    trainer = _trainer("classes=true", "train.flip=true", "train.label_dropout=0.25")
    images = torch.zeros(4000, 1, 16, 16, dtype=torch.uint8)
    images[..., 0] = 255  # a bright left edge shows which way an image faces
    batch = make_batch(images, torch.zeros(4000, dtype=torch.long), 3, trainer.objective, trainer.experiment.train, 0, 0)
    assert float((batch.y == 3).float().mean()) == pytest.approx(0.25, abs=0.03)  # type: ignore[union-attr]
    assert float((batch.x0[:, 0, 0, 0] < 0).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_the_loss_of_a_silent_network_is_the_mean_square_of_the_target() -> None:
    # patch_unet predicts 0 at first. For v on a variance-preserving path with eps independent of x0,
    # E[v^2] = alpha^2 E[eps^2] + sigma^2 E[x0^2]; for epsilon it is 1.
    trainer = _trainer("target=epsilon", "levels=uniform")
    images = trainer.data.images.repeat(8, 1, 1, 1)
    batch = make_batch(images, None, 0, trainer.objective, trainer.experiment.train, 0, 0)
    assert float(training_loss(trainer.model, trainer.objective, trainer.network, batch).mean().detach()) == pytest.approx(
        1.0, abs=0.01
    )


def test_training_lowers_the_loss_on_the_same_batch() -> None:
    trainer = _trainer("train.images=1600")
    batch = make_batch(trainer.data.images, None, 0, trainer.objective, trainer.experiment.train, 0, 0)
    before = float(training_loss(trainer.model, trainer.objective, trainer.network, batch).mean().detach())
    _train(trainer)
    assert float(training_loss(trainer.model, trainer.objective, trainer.network, batch).mean().detach()) < 0.8 * before


def test_the_average_that_is_sampled_is_the_average_that_was_stepped() -> None:
    trainer = _train(_trainer())
    ema, raw = trainer.sampling_network("ema"), trainer.sampling_network("raw")
    assert not ema.training
    assert not raw.training
    assert any(not torch.equal(a, b) for a, b in zip(ema.parameters(), raw.parameters(), strict=True))
    fresh = _trainer().network
    assert any(not torch.equal(a, b) for a, b in zip(ema.parameters(), fresh.parameters(), strict=True))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    network = copy.deepcopy(_trainer().network)
    with pytest.raises(BadInput, match="no such weights"):
        load_weights(tmp_path / "ema.safetensors", network)
    (tmp_path / "ema.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(BadInput, match="do not fit"):
        load_weights(tmp_path / "ema.safetensors", network)


def _poison(trainer: Trainer, step: int) -> None:
    """From now on the loss of two images of that step is no number."""
    usual = trainer.objective.loss

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        values = usual(prediction, target)
        if trainer.images == step * trainer.experiment.train.batch:
            values[3:5] *= torch.nan
        return values

    trainer.objective = dataclasses.replace(trainer.objective, loss=loss)


def test_a_loss_that_is_no_number_stops_the_run_before_it_harms_the_weights() -> None:
    trainer = _trainer("train.images=640")
    _poison(trainer, 7)
    with pytest.raises(Diverged, match=r"not finite at step 7 \(after 224 images\), levels .* to .*, learning rate") as caught:
        _train(trainer)
    assert trainer.images == 7 * 32
    assert all(bool(value.isfinite().all()) for value in _weights(trainer))
    levels = caught.value.batch.level[3:5]
    assert f"{float(levels.min()):.1f} to {float(levels.max()):.1f}" in str(caught.value)
    assert caught.value.untouched
    assert torch.equal(caught.value.batch.x0, trainer.batch(7).x0)


def test_a_device_that_must_not_wait_learns_of_it_when_a_row_is_due() -> None:
    trainer = _trainer("train.images=32000")  # five steps to a row
    trainer.looks_at_each_step = False
    _poison(trainer, 7)
    with pytest.raises(Diverged, match="at step 7 ") as caught:
        _train(trainer)
    assert trainer.images == 10 * 32
    assert not caught.value.untouched
    assert torch.equal(caught.value.batch.x0, trainer.batch(7).x0)


def test_skip_goes_on_without_that_step_and_counts_it() -> None:
    rows: list[dict[str, float]] = []
    trainer = _trainer("train.images=640", "train.on_nonfinite=skip")
    _poison(trainer, 7)
    trainer.run([_rows(trainer, rows)])
    assert trainer.images == 640
    assert [row["skipped_steps"] for row in rows] == [0] * 7 + [1] * 13
    assert "loss" not in rows[7]
    assert all(bool(value.isfinite().all()) for value in _weights(trainer))
    resumed = _trainer("train.images=640", "train.on_nonfinite=skip")
    resumed.load_state(trainer.state())
    assert resumed.skipped == 1
