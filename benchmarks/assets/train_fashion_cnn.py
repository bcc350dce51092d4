"""Train the `fashion_cnn` feature extractor and write the weights that ship with the lab.

    python -m benchmarks.assets.train_fashion_cnn [--epochs 18] [--out registry/features/fashion_cnn.safetensors]

Prints the held-out accuracy and the SHA-256 of the weights. Same seed, machine and threads: same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ddpm_lab.storage.json_text import to_json, write_json
from registry.datasets.fashion_mnist import fashion_mnist
from registry.features.fashion_cnn import WEIGHTS, FashionCNN


def augment(images: Tensor) -> Tensor:
    """Flip each image with probability 1/2 and shift the batch by at most one pixel: [B, 1, 28, 28]."""
    flip = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(flip, images.flip(3), images)
    row, column = torch.randint(-1, 2, (2,)).tolist()
    return F.pad(images, (1, 1, 1, 1))[:, :, 1 + row : 29 + row, 1 + column : 29 + column]


@torch.inference_mode()
def accuracy(network: FashionCNN, images: Tensor, labels: Tensor) -> float:
    network.eval()
    hits = sum(
        int((network(batch.float() / 255)[1].argmax(1) == truth).sum())
        for batch, truth in zip(images.split(1000), labels.split(1000), strict=True)
    )
    return hits / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    data = fashion_mnist()
    network = FashionCNN()
    steps = arguments.epochs * (len(data.train) // arguments.batch)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.2)
    bar = tqdm(total=steps, unit="step")
    for epoch in range(arguments.epochs):
        network.train()
        for chosen in torch.randperm(len(data.train)).split(arguments.batch):
            if len(chosen) < arguments.batch:
                continue
            with torch.autocast("cpu", torch.bfloat16):
                _, logits = network(augment(data.train.images[chosen].float() / 255))
                loss = F.cross_entropy(logits.float(), data.train.labels[chosen], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
        bar.write(f"epoch {epoch + 1}: held-out accuracy {accuracy(network, data.test.images, data.test.labels):.4f}")
    bar.close()
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, arguments.out)
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    record = {
        "epochs": arguments.epochs,
        "held_out_accuracy": accuracy(network, data.test.images, data.test.labels),
        "held_out_images": len(data.test),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "sha256": digest,
        "torch": torch.__version__,
    }
    write_json(arguments.out.with_suffix(".json"), record)
    print(to_json(record, indent=2))


if __name__ == "__main__":
    main()
