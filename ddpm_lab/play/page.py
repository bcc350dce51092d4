"""The page of the playground: controls filled from the registries, images that come about, and what they cost."""

from __future__ import annotations

import contextlib
import html
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddpm_lab.api.run import Run
from ddpm_lab.config.schema import Sampling
from ddpm_lab.diffusion.build import build_levels, build_path
from ddpm_lab.diffusion.compatibility import samplers_for
from ddpm_lab.diffusion.sampling import ImageSampler
from ddpm_lab.inference.sampling_overrides import changed
from ddpm_lab.reports.result_table import in_a_line
from ddpm_lab.runtime.signals import NotFinite
from ddpm_lab.storage.images import data_url
from registry.errors import BadInput
from registry.grids import GRIDS
from registry.guidance import GUIDANCE

IMAGES, ROW, EVERY = 16, 8, 0.1  # of a sampling; of each sampler side by side; seconds between two pictures, at least
ALL = "all in turn"
CSS = """
.gradio-container {max-width: 1120px !important; margin: auto; padding: 12px !important}
#title h1 {font-size: 1.35rem; margin: 0} #title p {margin: 2px 0 0; opacity: .7}
.pixels img {image-rendering: pixelated; display: block; width: 100%; border-radius: 6px}
#live img {max-width: 464px} #single img {max-width: 232px} #rows img {max-width: 680px}
#cost {font-variant-numeric: tabular-nums; min-height: 1.6em}
.refused {color: #b42318; font-weight: 600} .dark .refused {color: #fda29b}
#rows figure {margin: 0 0 12px} #rows figcaption {padding: 0 0 3px; font-size: .9rem}
"""


class Step(NamedTuple):
    """The images before a step of the sampler, or at last its result, and what they have cost."""

    step: int
    total: int
    images: Tensor  # uint8 [n, C, H, W]
    evaluations: float  # of the network, for an image
    seconds: float


class _Stopped(Exception):
    """Nobody looks any more."""


class Watched(Run):
    """A run whose sampling is looked at while it goes on. There is one at a time, and `stop` ends it before its next step."""

    _evaluated, _stop = 0, threading.Event()

    def sampler(self, sampling: Sampling) -> ImageSampler:
        """As of any run, with a network that counts the images that it is asked about."""
        made = super().sampler(sampling)
        made.network.register_forward_pre_hook(self._count)
        return made

    def steps(self, n: int, **asked: Any) -> Iterator[Step]:
        """What `sample(n, **asked)` goes through, while a thread does it.

        Raises:
            BadInput, NotFinite: as `sample` does.
        """
        found: queue.SimpleQueue[Step | BaseException] = queue.SimpleQueue()
        self._evaluated, self._stop, begun = 0, (stop := threading.Event()), time.monotonic()

        def tell(step: int, total: int, images: Tensor) -> None:
            if stop.is_set():
                raise _Stopped
            found.put(Step(step, total, images, self._evaluated / n, time.monotonic() - begun))

        def work() -> None:
            try:
                self.sample(n, on_step=tell, **asked)
                raise _Stopped
            except BaseException as error:  # whatever it is, whoever looks is told
                found.put(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            while isinstance(one := found.get(), Step):
                yield one
            if not isinstance(one, _Stopped):
                raise one
        finally:
            stop.set()

    def stop(self) -> None:
        """End the sampling that goes on."""
        self._stop.set()

    def samplers(self) -> list[str]:
        """Those that its network serves, its own first."""
        own = self.experiment.sampling.sampler.name
        return sorted(samplers_for(self.experiment.objective.name), key=lambda name: (name != own, name))

    def schedules(self) -> list[str]:
        """The sampling schedules that do not refuse its noise levels."""
        path, found = build_path(self.experiment), []
        for part in GRIDS:
            with contextlib.suppress(BadInput):
                build_levels(changed(self, self.experiment.sampling, grid=part.name), path)
                found.append(part.name)
        return found

    def strength(self) -> float | None:
        """The scale of its guidance; None where it has none that can be set."""
        own = self.experiment.sampling
        with contextlib.suppress(BadInput):
            changed(self, own, guidance=2.0)
            return float(own.guidance.options[str(GUIDANCE.part(own.guidance.name).traits.strength)])
        return None

    def _count(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._evaluated += len(inputs[0])


class Page:
    """What the page does with the values of its controls. Each answer is the HTML of a place, or of several."""

    def __init__(self, run: Watched) -> None:
        self.run, self.strength = run, run.strength()

    def sample(self, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Images as they come about, their cost; at last all steps, uint8 [steps + 1, n, C, H, W], and the slider over them."""
        import gradio as gr

        seen, shown = list[Step](), 0.0
        try:
            for step in self.run.steps(IMAGES, **self._asked(values)):
                seen.append(step)
                if step.step in (0, step.total) or time.monotonic() - shown > EVERY:
                    yield picture(step.images, 4), _cost(step), gr.skip(), gr.skip()
                    shown = time.monotonic()
        except (BadInput, NotFinite) as error:
            yield gr.skip(), refusal(error), gr.skip(), gr.skip()
            return
        if not seen:  # an answer without anything would empty all these places
            yield gr.skip(), "stopped", gr.skip(), gr.skip()
            return
        way, last = torch.stack([step.images for step in seen]), seen[-1]
        line = _cost(last) + ("; stopped" if last.step < last.total else "")
        yield picture(last.images, 4), line, way, gr.Slider(maximum=len(way) - 1, value=len(way) - 1)

    def one(self, way: Tensor | None, number: float, step: float) -> str:
        """An image at a step of its way."""
        return "" if way is None else picture(way[min(int(step), len(way) - 1), int(number)][None], 1)

    def beside(self, names: Sequence[str], *values: Any) -> Iterator[str]:
        """The same noise through several samplers, a row each, below that of the noise."""
        rows = "" if names else refusal(BadInput("choose at least one sampler"))
        for name in names:
            step = None
            try:
                for step in self.run.steps(ROW, **{**self._asked(values), "sampler": name}):
                    if step.step == 0 and not rows:
                        yield (rows := _row("the noise that all of them begin with", picture(step.images, ROW)))
            except (BadInput, NotFinite) as error:
                rows += _row(f"<b>{name}</b>", refusal(error))
                continue
            if step is None or step.step < step.total:  # stopped
                break
            yield (rows := rows + _row(f"<b>{name}</b> · {_cost(step)}", picture(step.images, ROW)))
        yield rows

    def _asked(self, values: Sequence[Any]) -> dict[str, Any]:
        """What `sample` of a run is given, from the values of the controls; BadInput where a number is missing."""
        asked = dict(zip(("sampler", "schedule", "steps", "guidance", "classes", "seed"), values, strict=True))
        for name in ("steps", "seed"):
            if asked[name] is None:
                raise BadInput(f"{name}: a whole number is missing")
            if asked[name] == int(asked[name]):
                asked[name] = int(asked[name])  # a browser has no whole numbers; of others the run says what is wrong
        left_out = {"guidance": self.strength is None, "classes": asked["classes"] in (None, ALL)}
        return {name: value for name, value in asked.items() if not left_out.get(name)}


def build(run: Watched) -> Any:
    """The page of a run, as gradio's Blocks."""
    import gradio as gr

    page, sampling = Page(run), run.experiment.sampling
    names, last, about = run.samplers(), sampling.steps, in_a_line(run.result) if run.result else "not measured"
    classes = list(run.shape.class_names or ()) if run.experiment.classes else []
    with gr.Blocks(title=f"{run.recipe.name}: ddpm_lab", analytics_enabled=False) as blocks:
        gr.HTML(f"<h1>{html.escape(run.recipe.name)}</h1><p>{html.escape(about)}; on {run.device}</p>", elem_id="title")
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                sampler = gr.Dropdown(names, value=sampling.sampler.name, label="Sampler", elem_id="sampler")
                schedule = gr.Dropdown(run.schedules(), value=sampling.grid.name, label="Schedule", elem_id="schedule")
                with gr.Row():
                    steps = gr.Number(sampling.steps, label="Steps", min_width=90, elem_id="steps")
                    seed = gr.Number(sampling.seed, label="Seed", min_width=90, elem_id="seed")
                scale = gr.Slider(
                    0, 10, page.strength or 1, step=0.1, label="Guidance", elem_id="guidance", visible=page.strength is not None
                )
                label = gr.Dropdown([ALL, *classes], value=ALL, label="Class", elem_id="class", visible=bool(classes))
                halt = gr.Button("Stop", elem_id="halt", size="sm")
            with gr.Column(scale=3, min_width=300):
                with gr.Tab("Sample"):
                    go = gr.Button("Sample", variant="primary", elem_id="go", size="md")
                    cost = gr.HTML(elem_id="cost")
                    with gr.Row():
                        with gr.Column(scale=3, min_width=300):
                            live = gr.HTML(elem_id="live", elem_classes="pixels")
                        with gr.Column(scale=2, min_width=220):
                            number = gr.Slider(0, IMAGES - 1, 0, step=1, label="One image", elem_id="image", buttons=[])
                            step = gr.Slider(0, last, last, step=1, label="Its way from noise", elem_id="step", buttons=[])
                            single = gr.HTML(elem_id="single", elem_classes="pixels")
                with gr.Tab("Side by side"):
                    chosen = gr.CheckboxGroup(names, value=names[:3], label="Samplers", elem_id="names")
                    compare = gr.Button("Sample with each", variant="primary", elem_id="compare", size="md")
                    rows = gr.HTML(elem_id="rows", elem_classes="pixels")
        way, controls = gr.State(), [sampler, schedule, steps, scale, label, seed]
        alone = {"concurrency_id": "network", "concurrency_limit": 1, "show_progress": "hidden", "api_visibility": "private"}
        free = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        sampled = gr.on([go.click, blocks.load], page.sample, controls, [live, cost, way, step], **alone)
        sampled.then(page.one, [way, number, step], single, **free)
        gr.on([number.input, step.input], page.one, [way, number, step], single, trigger_mode="always_last", **free)
        compare.click(page.beside, [chosen, *controls], rows, **alone)
        halt.click(run.stop, **free)
    return blocks


def picture(images: Tensor, columns: int) -> str:
    """Images in rows of `columns`, as HTML."""
    return f"<img src='{data_url(images, columns)}' alt='{len(images)} images'>"


def refusal(error: Exception) -> str:
    """Why not, as HTML."""
    return f"<span class='refused'>{html.escape(str(error).removeprefix('sample(): '))}</span>"


def _cost(step: Step) -> str:
    evaluations = f"<b>{step.evaluations:g}</b> evaluations of the network for each image"
    return f"step {step.step} of {step.total} · {evaluations} · <b>{step.seconds:.1f} s</b>"


def _row(caption: str, what: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{what}</figure>"
