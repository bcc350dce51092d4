"""Minibatch optimal transport."""

import torch
from torch import Tensor

from registry.couplings import COUPLINGS, Coupling, Sampled
from registry.placing import exact_device


@COUPLINGS.register("optimal_transport")
def optimal_transport(sampled: Sampled) -> Coupling:
    """The pairs of a batch with the least squared distance in all (Pooladian et al. 2023; Tong et al. 2024, section 3.3).

    Exact, by scipy's assignment; within each class where there are classes.
    """

    def paired(x0: Tensor, eps: Tensor, y: Tensor | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        order = torch.arange(len(x0), device=x0.device)
        groups = [order.clone()] if y is None else [(y == label).nonzero().flatten() for label in y.unique()]
        for group in groups:
            order[group] = group[_assigned(x0[group], eps[group])]
        return x0, eps[order]

    return paired


def _assigned(images: Tensor, noise: Tensor) -> Tensor:
    """For each image the index of its noise."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    # |x - e|^2 = |x|^2 + |e|^2 - 2 x e, of which only the product depends on the pairs.
    # This waits for an accelerator, as an assignment on the CPU must.
    device = exact_device(images.device)
    cost = -(images.flatten(1).to(device).double() @ noise.flatten(1).to(device).double().T)
    _, chosen = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(chosen).to(images.device)
