"""Images of a trained run with the noise that they came from, for couplings that learn from them."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_lab.config.schema import Experiment
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.diffusion.stability import amplification
from ddpm_lab.inference.trained_run import Run
from ddpm_lab.runtime import distributed
from ddpm_lab.runtime.console import Progress
from ddpm_lab.runtime.seeding import ImageNoise
from registry.couplings import Sampled
from registry.errors import BadInput


def pairs_of(experiment: Experiment, shape: DataShape, device: torch.device) -> Sampled:
    """What gives a coupling the pairs of another run, by the run's own sampling procedure.

    Each process samples its share, and all get all.
    """

    def sampled(name: str, indices: range) -> tuple[Tensor, Tensor, Tensor | None]:
        run = Run(name, str(device))
        if run.shape.image_shape != shape.image_shape:
            raise BadInput(f"coupling.run: '{name}' makes images of another size, {list(run.shape.image_shape)}")
        sampling = run.experiment.sampling
        sampler = run.sampler(sampling)
        if amplification(sampler.procedure.sampler, sampler.procedure.grid).stochastic:
            raise BadInput(
                f"coupling.run: '{name}' is sampled by '{sampling.sampler.name}', which adds noise on the way: its images do"
                " not belong to the noise that they began with; name a run that is sampled by ddim"
            )
        labels = sampler.labels(len(indices))
        if experiment.classes and labels is None:
            raise BadInput(f"coupling.run: '{name}' knows no classes, and this run does")
        batches = [indices[start : start + sampling.batch] for start in range(0, len(indices), sampling.batch)]
        found, mine = [], distributed.dealt(range(len(batches)))
        with Progress("pairs", len(indices)) as bar:
            for number in mine:
                found.append(sampler.unrounded(batches[number], experiment.seed, labels))
                bar.advance(min(len(batches[number]) * distributed.size(), len(indices) - bar.done))
        gathered = distributed.collected(found)
        noise = ImageNoise(experiment.seed, indices, shape.image_shape)()
        return distributed.from_main(lambda: torch.cat(gathered).cpu()), noise, labels

    return sampled
