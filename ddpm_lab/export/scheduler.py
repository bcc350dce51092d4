"""Noise path and sampler as a scheduler of diffusers."""

from __future__ import annotations

import torch

from ddpm_lab.config.schema import Experiment
from ddpm_lab.export.component import Component, Inexpressible
from registry.path import NoisePath

PREDICTION = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
TIMESTEPS = 1000  # of the noise labels that the networks read


def scheduler(experiment: Experiment, path: NoisePath, noisy: bool) -> Component:
    """DDPMScheduler where the run draws by the ancestral sampler and the pipeline is `noisy`, DDIMScheduler otherwise.

    Its steps lie where the grid `trailing` has them, the only one of diffusers' whose steps fit their own differences.

    Raises:
        Inexpressible: these schedulers know no such path or target.
    """
    target = experiment.target.name
    if path.kind != "variance_preserving":
        raise Inexpressible(f"its DDPM and DDIM take variance-preserving paths only, and '{experiment.schedule.name}' is none")
    if target not in PREDICTION:
        raise Inexpressible(f"its schedulers know no target '{target}'; they know {', '.join(PREDICTION)}")
    if path.steps != TIMESTEPS:
        raise Inexpressible(f"its schedulers hand the network the level itself, which is the noise label where T = {TIMESTEPS}")
    signal = path.at(torch.arange(path.steps, device=path.angle.device))[0].double().cpu() ** 2
    betas = 1 - signal / torch.cat([signal.new_ones(1), signal[:-1]])
    config = {
        "num_train_timesteps": path.steps, "trained_betas": betas.tolist(), "prediction_type": PREDICTION[target],
        "timestep_spacing": "trailing", "clip_sample": experiment.sampling.clip is True, "clip_sample_range": 1.0,
        "thresholding": isinstance(experiment.sampling.clip, float), "sample_max_value": 1e6,
    }  # fmt: skip
    if isinstance(experiment.sampling.clip, float):
        config["dynamic_thresholding_ratio"] = experiment.sampling.clip
    if noisy and experiment.sampling.sampler.name == "ancestral":
        return Component("scheduler", "DDPMScheduler", {**config, "variance_type": experiment.variance.name})
    return Component("scheduler", "DDIMScheduler", {**config, "set_alpha_to_one": True})
