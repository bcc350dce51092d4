"""A trained run in Python: images, values, the network; and what a notebook shows of it."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from ddpm_lab.api.call import PartName, checked, require_count, require_overrides
from ddpm_lab.config.load import load_recipe
from ddpm_lab.config.schema import Sampling
from ddpm_lab.diffusion.model import Model
from ddpm_lab.diffusion.process import Diffusion
from ddpm_lab.diffusion.sampling import OnStep
from ddpm_lab.inference import trained_run
from ddpm_lab.inference.measuring import evaluate_run
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.inference.trained_run import class_number
from ddpm_lab.reports.result_table import in_a_line, result_lines
from ddpm_lab.reports.run_report import embedded
from ddpm_lab.runtime.console import Shown
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.files import numbered
from ddpm_lab.storage.images import data_url
from ddpm_lab.storage.json_text import write_json
from ddpm_lab.storage.measurement import Measurement, RunResult, failures, plain, read_result
from registry.choice import Choice
from registry.errors import BadInput
from registry.features import FEATURES

SHOWN = 16  # images in the picture of a folder that has none


class Values(Shown, tuple[Measurement, ...]):
    """Measurements, the main metric first; a notebook shows them as a table."""

    def lines(self) -> Iterator[str]:
        """The table, and how it was measured."""
        return result_lines(self)


class Run(trained_run.Run):
    """A run, opened from its folder alone, or an exported network; the weights are read when they are needed.

    `folder`, `experiment`, `shape` (of its data), `device` and `precision` say what it is.
    """

    @checked
    def sample(
        self, n: int = 16, *overrides: str, sampler: PartName | None = None, steps: int | None = None,
        schedule: PartName | None = None, guidance: float | PartName | None = None,
        classes: int | str | Sequence[int | str] | None = None, seed: int | None = None, weights: str | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:  # fmt: skip
        """`n` images, uint8 [n, C, H, W], 0 to 255, on the CPU. What is not said is as the run's experiment has it.

        Image i of a seed starts from the same noise whatever `n` is.

        Args:
            overrides: as on the command line, such as "sampling.clip=0.995".
            sampler: its name, or a mapping with its options: {"name": "ddim", "eta": 1.0}.
            steps: reverse steps, at most the run's `timesteps`.
            schedule: the sampling schedule (`sampling.grid` in YAML), which says at which noise levels the steps are.
            guidance: the scale of the run's own guidance, or another guidance.
            classes: a class, by its number or name, or several in turn; all in turn where none is named.
            weights: ema, raw, ema_2 ...
            on_step: called as on_step(step, total, images) with uint8 [b, C, H, W], at step 0 with pure noise and at last with
                the result; more than `sampling.batch` images come batch by batch.

        Raises:
            BadInput: anything is wrong, before anything is computed.
            NotFinite: images hold NaN or infinite numbers.
        """
        require_count("sample", "n", n)
        way = self._sampling("sample", overrides, sampler, steps, schedule, guidance, seed, weights)
        return self.images(n, way, self._numbers(classes), on_step)[0]

    @checked
    def evaluate(
        self, n: int | None = None, *overrides: str, features: str | Sequence[str] | None = None, extrapolate: bool = False,
        sampler: PartName | None = None, steps: int | None = None, schedule: PartName | None = None,
        guidance: float | PartName | None = None, seed: int | None = None, weights: str | None = None,
    ) -> Values:  # fmt: skip
        """FID and the other metrics of `n` images (default: the experiment's N), sampled as `sample` does.

        The values are kept in the run's folder, where `compare` finds them.

        Args:
            features: extractors, such as "fashion_cnn" (default: the experiment's).
            extrapolate: also the FID of infinitely many images.

        Raises:
            BadInput: anything is wrong.
            NotFinite: the images, or their features, hold NaN or infinite numbers.
        """
        n = self.experiment.evaluate.n if n is None else n
        require_count("evaluate", "n", n, least=2)
        names = [features] if isinstance(features, str) else features
        chosen = [Choice(name, FEATURES.check(name, {})) for name in names] if names else self.experiment.evaluate.features
        way = self._sampling("evaluate", overrides, sampler, steps, schedule, guidance, seed, weights)
        found, file = evaluate_run(self, way, n, chosen, extrapolate=extrapolate)
        write_json(file, plain(found))
        if why := failures(found):
            raise NotFinite(f"{self.folder.path}: {found[0].metric} could not be measured: {'; '.join(why)}")
        return Values(found)

    @property
    def result(self) -> RunResult | None:
        """The result of the finished run: `result.metrics`, `result.training_seconds` ...; None where there is none.

        Raises:
            BadInput: it cannot be read.
        """
        return read_result(self.folder.result) if self.folder.finished else None

    @property
    def network(self) -> nn.Module:
        """The trained network, in evaluation mode, on the run's device: (x [B, C, H, W], label [B], y [B] or None).

        It is a copy of this object's own: what is done to it changes no image of `sample`.
        """
        return self._model.network

    @property
    def diffusion(self) -> Diffusion:
        """The mathematics: `diffusion.path` (noise levels), `diffusion.target`, `diffusion.denoise(network, x, level, y)`."""
        return self._model.diffusion

    @functools.cached_property
    def _model(self) -> Model:
        return self.model(self.experiment.sampling)

    def _sampling(
        self, call: str, overrides: Sequence[str], sampler: PartName | None, steps: int | None, schedule: PartName | None,
        guidance: float | PartName | None, seed: int | None, weights: str | None,
    ) -> Sampling:  # fmt: skip
        """The run's own procedure with what is given instead, validated as its experiment was."""
        require_overrides(call, overrides)
        if strange := next((one for one in overrides if not one.startswith("sampling.")), None):
            raise BadInput(f"'{strange}': only the sampling of a trained run can be changed; name a key below sampling")
        scale = guidance if isinstance(guidance, (int, float)) and not isinstance(guidance, bool) else None
        given = {
            "sampler": sampler, "steps": steps, "grid": schedule, "guidance": guidance if scale is None else None,
            "seed": seed, "weights": weights,
        }  # fmt: skip
        said = {key: dict(value) if isinstance(value, Mapping) else value for key, value in given.items() if value is not None}
        recipe = load_recipe(str(self.folder.experiment), overrides, None, {"sampling": said}, f"{call}()")
        own = recipe.experiment.sampling
        return changed(self, own, guidance=scale, weights=None if own.weights == "auto" else own.weights)

    def _numbers(self, classes: int | str | Sequence[int | str] | None) -> list[int] | None:
        if classes is None:
            return None
        listed = [classes] if isinstance(classes, (int, str)) else list(classes)
        if not listed or not all(isinstance(one, (int, str)) and not isinstance(one, bool) for one in listed):
            raise BadInput(f"sample(): classes: {classes!r} is not a class or a list of classes, such as [0, 'Bag']")
        names = self.shape.class_names
        return [class_number(one, names) if isinstance(one, str) else one for one in listed]

    @property
    def _name(self) -> str:
        name, folder = self.recipe.name, self.folder.path.resolve().name
        return name if name == folder else f"{name}/{folder}"

    def _told(self) -> str:
        result = self.result
        if result is None:
            return "not finished" if self.folder.metrics.is_file() else "exported"
        return in_a_line(result)

    def __repr__(self) -> str:
        return f"<Run {self._name}: {self._told()}>"

    def _repr_html_(self) -> str:
        """Its last samples, and its numbers. Images are sampled only where the folder has none."""
        lines = "\n".join(result_lines(result.metrics)) if (result := self.result) else ""
        text = f"{html.escape(f'{self._name}: {self._told()}')}<br><img src='{self._picture}'>"
        return f"{text}<pre>{html.escape(lines)}</pre>" if lines else text

    @functools.cached_property
    def _picture(self) -> str:
        kept: list[tuple[int, Path]] = numbered(self.folder.samples, r"\.png")
        if kept:
            return embedded(kept[-1][1])
        return data_url(self.sample(SHOWN))
