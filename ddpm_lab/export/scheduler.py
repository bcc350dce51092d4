"""Noise path and sampler as a scheduler of diffusers."""

from __future__ import annotations

import torch

from ddpm_lab.config.schema import Experiment
from ddpm_lab.export.component import Component, Inexpressible
from registry.curve import VariancePreserving
from registry.path import NoisePath
from registry.samplers import SAMPLERS
from registry.targets import TARGETS
from registry.variances import VARIANCES

TIMESTEPS = 1000  # of the noise labels that the networks read


def scheduler(experiment: Experiment, path: NoisePath, noisy: bool) -> Component:
    """DDPMScheduler where the run uses the ancestral sampler and the pipeline is `noisy`, DDIMScheduler otherwise.

    Its steps are those of the sampling schedule `trailing`, the only one of diffusers' whose steps fit their own differences.

    Raises:
        Inexpressible: these schedulers know no such path or target.
    """
    prediction = TARGETS.part(experiment.target.name).traits.diffusers
    if not isinstance(path.curve, VariancePreserving):
        raise Inexpressible(f"its DDPM and DDIM take variance-preserving paths only, and '{experiment.schedule.name}' is none")
    if prediction is None:
        known = ", ".join(part.name for part in TARGETS if part.traits.diffusers)
        raise Inexpressible(f"its schedulers know no target '{experiment.target.name}'; they know {known}")
    if path.steps != TIMESTEPS:
        raise Inexpressible(f"its schedulers hand the network the level itself, which is the noise label where T = {TIMESTEPS}")
    signal = path.at(torch.arange(path.steps))[0] ** 2
    betas = 1 - signal / torch.cat([signal.new_ones(1), signal[:-1]])
    config = {
        "num_train_timesteps": path.steps, "trained_betas": betas.tolist(), "prediction_type": prediction,
        "timestep_spacing": "trailing", "clip_sample": experiment.sampling.clip is True, "clip_sample_range": 1.0,
        "thresholding": isinstance(experiment.sampling.clip, float), "sample_max_value": 1e6,
    }  # fmt: skip
    if isinstance(experiment.sampling.clip, float):
        config["dynamic_thresholding_ratio"] = experiment.sampling.clip
    if noisy and SAMPLERS.part(experiment.sampling.sampler.name).traits.diffusers == "DDPMScheduler":
        variance = VARIANCES.part(experiment.variance.name).traits.diffusers
        if variance is None:
            raise Inexpressible(f"its DDPM knows no variance '{experiment.variance.name}'")
        return Component("scheduler", "DDPMScheduler", {**config, "variance_type": variance})
    return Component("scheduler", "DDIMScheduler", {**config, "set_alpha_to_one": True})
