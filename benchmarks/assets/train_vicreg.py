"""Train `fashion_vicreg` or `mnist_vicreg`, feature extractors that learn from images alone, and write the weights that ship.

    OMP_NUM_THREADS=1 python -m benchmarks.assets.train_vicreg fashion_mnist --seed 1
    OMP_NUM_THREADS=1 python -m benchmarks.assets.train_vicreg mnist --seed 2 --epochs 4

VICReg (Bardes et al. 2022, arXiv:2105.04906): two distorted views of an image shall have the same embedding, each dimension of
the embeddings a standard deviation of one, no two of them a covariance. The labels serve at the end only: they fit a linear
probe, whose logits ship too, and test it and the nearest neighbors on the 10,000 test images. Prints the record that is
written beside the weights. Same seed, machine and threads: same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from ddpm_lab.storage.json_text import to_json, write_json
from registry.datasets import DATASETS
from registry.features import vicreg
from registry.features.vicreg import WIDTH, VICRegNetwork

NAMES = {"fashion_mnist": "fashion_vicreg", "mnist": "mnist_vicreg"}
BATCH = 256
EMBEDDING = 512
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # their section 4.2
NEIGHBORS = 20
SHOWN = 3  # images of noise, seed 0, whose features the record holds


def distort(images: Tensor) -> Tensor:
    """A view of each image in [0, 1] [B, 1, 28, 28]: scaled, turned, sheared, shifted, of another contrast, a square covered.

    Neither blurred nor noisy on purpose, and never mirrored: the features must not learn to overlook what samplers do wrong.
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high)

    angle, zoom, shear = uniform(-0.2, 0.2), uniform(0.65, 1.1), uniform(-0.15, 0.15)
    room = 0.15 + (1 - zoom).clamp(min=0)
    rows = (
        torch.stack([zoom * angle.cos(), zoom * (shear - angle.sin()), room * uniform(-1, 1)], 1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), room * uniform(-1, 1)], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    view = F.grid_sample(images, grid, align_corners=False) * uniform(0.7, 1.3).view(-1, 1, 1, 1)
    corner, side = uniform(0, 28), 10
    over, down = (torch.arange(28) - place[:, None] for place in (corner, uniform(0, 28)))
    covered = ((over.abs() < side / 2)[:, None, :] & (down.abs() < side / 2)[:, :, None])[:, None]
    return view.masked_fill(covered & (uniform(0, 1) < 0.5).view(-1, 1, 1, 1), 0).clamp(0, 1)


def vicreg_loss(one: Tensor, other: Tensor) -> Tensor:
    """Their equation 6, of two views' embeddings [B, D]."""
    loss = INVARIANCE * F.mse_loss(one, other)
    for embedding in (one, other):
        centered = embedding - embedding.mean(0)
        loss = loss + VARIANCE / 2 * F.relu(1 - (centered.var(0) + 1e-4).sqrt()).mean()
        covariance = centered.T @ centered / (len(centered) - 1)
        loss = loss + COVARIANCE * (covariance.square().sum() - covariance.diagonal().square().sum()) / EMBEDDING
    return loss


def train(images: Tensor, epochs: int) -> VICRegNetwork:
    network = VICRegNetwork().to(memory_format=torch.channels_last)
    expander = nn.Sequential(
        nn.Linear(WIDTH, EMBEDDING), nn.BatchNorm1d(EMBEDDING), nn.ReLU(),
        nn.Linear(EMBEDDING, EMBEDDING), nn.BatchNorm1d(EMBEDDING), nn.ReLU(),
        nn.Linear(EMBEDDING, EMBEDDING, bias=False),
    )  # fmt: skip
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW([*network.layers.parameters(), *expander.parameters()], weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    bar = tqdm(total=steps, unit="step")
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            if len(chosen) < BATCH:
                continue
            clean = images[chosen].float() / 255
            views = torch.cat([distort(clean), distort(clean)]).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                embeddings = expander(network.layers(views).mean(dim=(2, 3)))
            loss = vicreg_loss(*embeddings.float().chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix_str(f"loss {loss.item():.2f}", refresh=False)
    bar.close()
    return network.eval()


@torch.no_grad()
def features_of(network: VICRegNetwork, images: Tensor) -> Tensor:
    """[N, 128] of uint8 images."""
    return torch.cat([network(batch.float() / 255)[0] for batch in images.split(1000)])


def fit_probe(probe: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """Multinomial logistic regression, on standardised features; the scaling goes into the layer."""
    mean, std = features.mean(0), features.std(0).clamp(min=1e-4)
    scaled = (features - mean) / std
    weight, bias = torch.zeros(10, WIDTH, requires_grad=True), torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scaled @ weight.T + bias, labels) + 1e-4 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        probe.weight.copy_(weight / std)
        probe.bias.copy_(bias - (weight / std) @ mean)


def neighbor_accuracy(known: Tensor, labels: Tensor, asked: Tensor, truth: Tensor) -> float:
    """Share of `asked` whose class is the majority's among the NEIGHBORS nearest of `known`, by the cosine."""
    known, asked = (F.normalize(features - known.mean(0)) for features in (known, asked))
    votes = torch.cat([labels[(part @ known.T).topk(NEIGHBORS).indices].mode(1).values for part in asked.split(1000)])
    return int((votes == truth).sum()) / len(truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=NAMES)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    out = arguments.out or Path(vicreg.__file__).with_name(f"{NAMES[arguments.data]}.safetensors")

    torch.manual_seed(arguments.seed)
    data = DATASETS.configure(arguments.data, {})()
    assert data.train.labels is not None
    assert data.test.labels is not None
    images = data.train.rows(torch.arange(len(data.train)))
    network = train(images, arguments.epochs)
    known, asked = features_of(network, images), features_of(network, data.test.rows(torch.arange(len(data.test))))
    fit_probe(network.classify, known, data.train.labels)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, out)
    noise = torch.randint(0, 256, (SHOWN, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    guesses = network.classify(asked).argmax(1)
    record = {
        "data": arguments.data,
        "epochs": arguments.epochs,
        "features_of_noise": [[round(value, 5) for value in row[:8]] for row in features_of(network, noise).tolist()],
        "held_out_images": len(data.test),
        "linear_probe_accuracy": int((guesses == data.test.labels).sum()) / len(data.test),
        "nearest_neighbors_accuracy": neighbor_accuracy(known, data.train.labels, asked, data.test.labels),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seed": arguments.seed,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    write_json(out.with_suffix(".json"), record)
    print(to_json(record, indent=2))


if __name__ == "__main__":
    main()
