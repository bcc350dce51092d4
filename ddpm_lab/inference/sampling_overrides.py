"""Another sampling procedure than the one that a run was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddpm_lab.config.overrides import value_of
from ddpm_lab.config.schema import Sampling
from ddpm_lab.config.yaml_reader import Tree
from ddpm_lab.inference.trained_run import Run, part_in_words, split_part
from ddpm_lab.storage.measurement import Word
from registry.choice import Choice
from registry.errors import BadInput, did_you_mean
from registry.grids import GRIDS
from registry.guidance import GUIDANCE
from registry.objectives import OBJECTIVES
from registry.registry import Registry
from registry.samplers import SAMPLERS


def changed(
    run: Run, sampling: Sampling, *, sampler: str | None = None, grid: str | None = None, steps: int | None = None,
    seed: int | None = None, guidance: float | None = None, weights: str | None = None,
) -> Sampling:  # fmt: skip
    """`sampling` with what is given instead; a part with its default options, unless it is the one that is there.

    Raises:
        BadInput: there is no such part, the run has no such weights, or a number is out of bounds.
    """
    new: Tree = {}
    if steps is not None:
        if steps > run.experiment.timesteps:
            raise BadInput(f"--steps: {steps} steps do not fit into this run's timesteps = {run.experiment.timesteps}")
        new["steps"] = steps
    if weights is not None:
        known = run.folder.known_weights
        if weights not in known:
            raise BadInput(f"--weights: {run.folder.path} has no '{weights}'; {did_you_mean(weights, known)}")
        new["weights"] = weights
    if seed is not None:
        if seed < 0:
            raise BadInput(f"--seed: {seed} is negative")
        new["seed"] = seed
    if sampler is not None and sampler != sampling.sampler.name:
        new["sampler"] = Choice(sampler, SAMPLERS.check(sampler, {}))
    if grid is not None and grid != sampling.grid.name:
        new["grid"] = Choice(grid, GRIDS.check(grid, {}))
    if guidance is not None:
        # The scale of the guidance that the run has: a new scale does not change its kind.
        old = sampling.guidance
        traits = GUIDANCE.part(old.name).traits
        if traits.strength is None:
            raise BadInput(f"--guidance: '{old.name}' has no strength to set; `sampling.guidance=NAME` chooses another one")
        try:
            checked = GUIDANCE.check(old.name, {**old.options, traits.strength: guidance})
        except BadInput as error:
            raise BadInput(f"--guidance: {error}; `sampling.guidance=NAME` chooses another one") from None
        if traits.needs_classes(checked) and not run.experiment.classes:
            raise BadInput("--guidance: this run has no classes; train one with `classes=true`")
        new["guidance"] = Choice(old.name, checked)
    return sampling.model_copy(update=new)


def as_described(run: Run, words: Mapping[str, Word]) -> Sampling:
    """The procedure that a record's words describe, for that run; what they leave out is the run's own.

    Raises:
        BadInput: the run cannot be sampled so, or the words are not those of this lab's parts.
    """
    own, new = run.experiment.sampling, Tree()
    parts: tuple[tuple[str, Registry[Any, Any]], ...] = (("sampler", SAMPLERS), ("grid", GRIDS), ("guidance", GUIDANCE))
    for key, registry in parts:
        if key in words and words[key] != part_in_words(getattr(own, key).flat()):
            new[key] = _read_part(str(words[key]), registry)
    new |= {key: words[key] for key in ("steps", "clip", "weights", "seed") if key in words}
    found = own.model_copy(update=new)
    traits, takes = OBJECTIVES.part(run.experiment.objective.name).traits, SAMPLERS.part(found.sampler.name).traits.takes
    if not takes & traits.network:
        raise BadInput(f"'{found.sampler.name}' does not sample from a network of objective '{run.experiment.objective.name}'")
    if found.steps > run.experiment.timesteps:
        raise BadInput(f"{found.steps} steps do not fit into this run's timesteps = {run.experiment.timesteps}")
    if (name := run.weights_of(found)) not in (known := run.folder.known_weights):
        raise BadInput(f"{run.folder.path} has no '{name}' weights; {did_you_mean(name, known)}")
    guidance = found.guidance
    if GUIDANCE.part(guidance.name).traits.needs_classes(guidance.options) and not run.experiment.classes:
        raise BadInput("this run has no classes")
    return found


def _read_part(text: str, registry: Registry[Any, Any]) -> Choice:
    """`ddim (eta 0.0)`, as records have a part."""
    name, options = split_part(text)
    choice = Choice(name, registry.check(name, {key: value_of(value) for key, value in options.items()}))
    if part_in_words(choice.flat()) != text:
        raise BadInput(f"'{text}' is no {registry.kind} that this lab knows")
    return choice
