"""The exponential moving average."""

from collections.abc import Iterator

from registry.averages import AVERAGES, AverageTraits
from registry.options import Fraction, Positive
from registry.traits import Options, Setting


def _longer_than_the_run(options: Options, setting: Setting) -> Iterator[str]:
    half_life, ramp = options["half_life"], options["ramp"]
    if half_life > setting.images:
        kept = "" if ramp is None else f"; its warm-up keeps it at {ramp:g} of the images seen"
        yield f"train.ema.half_life: {half_life:g} images are more than the run has, {setting.images:,}{kept}"


@AVERAGES.register("exponential", AverageTraits(_longer_than_the_run, length="half_life", trial={"half_life": 1000}))
class Exponential:
    """An average whose memory halves every `half_life` images (Karras et al. 2022, EDM, appendix F).

    While the run is young the half-life is at most `ramp` of the images seen, so the average neither starts as noise nor
    drags the initialisation along. `ramp` null: no warm-up.
    """

    def __init__(self, *, half_life: Positive, ramp: Fraction | None = 0.05) -> None:
        self.half_life, self.ramp = half_life, ramp

    def __call__(self, images: int, batch: int) -> float:
        half_life = self.half_life if self.ramp is None else min(self.half_life, self.ramp * images)
        return float(0.5 ** (batch / half_life)) if half_life > 0 else 0.0
