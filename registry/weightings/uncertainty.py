"""EDM2's learned weighting."""

import torch
from torch import Tensor, nn

from registry.options import Count
from registry.placing import sent
from registry.weightings import WEIGHTINGS, Space


@WEIGHTINGS.register("uncertainty")
class Uncertainty(nn.Module):
    """u(noise), learned so that every level counts as much as it can be known (Karras et al. 2024, EDM2, appendix B).

    Fourier features of ln(sigma / alpha) / 4 and one linear layer, which starts at 0.
    """

    space: Space = "target"
    frequency: Tensor
    phase: Tensor

    def __init__(self, std: float, *, channels: Count = 128) -> None:
        super().__init__()
        self.register_buffer("frequency", 2 * torch.pi * torch.randn(channels))
        self.register_buffer("phase", 2 * torch.pi * torch.rand(channels))
        self.out = nn.Linear(channels, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, log_snr: Tensor, slope: Tensor) -> Tensor:
        # An error of the log variance is one of the loss's weight: bfloat16, which autocast would take, has three digits.
        with torch.autocast(self.frequency.device.type, enabled=False):
            return self._log_variance(log_snr)

    def _log_variance(self, log_snr: Tensor) -> Tensor:
        noise = sent((-log_snr / 8).clamp(-20, 20).float(), self.frequency.device)
        features = 2**0.5 * torch.cos(torch.outer(noise, self.frequency) + self.phase)
        return self.out(features).squeeze(1)  # type: ignore[no-any-return]
