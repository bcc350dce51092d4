"""Training on a GPU: images/s of the larger networks, share of what the GPU can do, and whether the step ever waits for it.

python -m benchmarks.gpu                     all networks; ends within ten minutes, and the same command resumes
python -m benchmarks.gpu patch_unet dit      some of them

Writes benchmarks/reports/gpu/{report.json,report.md}; a row that is known is not measured again on the same GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import command
from benchmarks.common.reporting import last_report, surroundings, write_report
from benchmarks.common.timing import convolution, forward_flops, product, spread
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion.build import build_data, build_model, build_objective
from ddpm_lab.diffusion.model import DataShape
from ddpm_lab.runtime.device import pick_device, pick_precision
from ddpm_lab.training.trainer import Trainer

LIMIT = 540.0  # seconds for one command
WARM, STEPS, TURNS = 5, 20, 5
RGB = "dataset={name: shapes, size: 64, channels: 3, count: 4096}"
NETWORKS = {
    "patch_unet": (512, ["backbone={name: patch_unet, width: 128}"]),
    "adm_unet": (64, [RGB, "backbone={name: adm_unet, width: 128, multipliers: [1, 2, 3, 4], blocks: 3}"]),
    "edm2_unet": (64, [RGB, "backbone={name: edm2_unet, width: 128, multipliers: [1, 2, 3, 4], blocks: 3}"]),
    "dit": (256, [RGB, "backbone={name: dit, width: 384, depth: 12, heads: 6, patch: 4}"]),
}
WAYS = {
    "fp32": ["train.precision=fp32", "train.memory_format=contiguous", "train.compile=false"],
    "bf16": ["train.precision=bf16", "train.memory_format=contiguous", "train.compile=false"],
    "bf16, channels_last": ["train.precision=bf16", "train.memory_format=channels_last", "train.compile=false"],
    "bf16, channels_last, compiled": ["train.precision=bf16", "train.memory_format=channels_last", "train.compile=true"],
}
COMMON = ["train.optimizer=AdamW", "train.rate.peak=1e-4", "train.rate.warmup=0", "evaluate.features=[]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU on this machine; the report stays as it is")
    device, start = pick_device(arguments.device), time.monotonic()
    torch.set_float32_matmul_precision("high")
    environment = surroundings(device)
    found = _kept(environment["hardware"]) or {"environment": environment, "ceilings": _ceilings(device), "rows": []}
    for network in arguments.networks:
        for way in WAYS:
            if any((row["network"], row["way"]) == (network, way) for row in found["rows"]):
                continue
            if time.monotonic() - start > LIMIT / 2:
                print("the time limit of one command is reached; the same command resumes from here")
                return
            found["rows"].append(_row(network, way, device, found["ceilings"]))
            print(found["rows"][-1], flush=True)
            write_report("gpu", found)


def _kept(hardware: str) -> dict[str, Any] | None:
    known = last_report("gpu")
    return known if known and known["environment"]["hardware"] == hardware else None


def _rate(work: Callable[[], None], operations: float, device: torch.device) -> list[float]:
    """Operations a second, turn after turn."""
    for _ in range(WARM):
        work()
    found = []
    for _ in range(TURNS):
        _wait(device)
        start = time.perf_counter()
        for _ in range(STEPS):
            work()
        _wait(device)
        found.append(STEPS * operations / (time.perf_counter() - start))
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _ceilings(device: torch.device) -> dict[str, Any]:
    """TFLOP/s, forward and backward."""
    found = {}
    for precision in ("fp32", "bf16"):
        work, operations = convolution(precision, device, width=256, batch=256)
        found[f"convolution, {precision}"] = spread(_rate(work, operations / 1e12, device))
        work, operations = product(precision, device, side=8192)
        found[f"product, {precision}"] = spread(_rate(work, operations / 1e12, device))
    return found


def _row(network: str, way: str, device: torch.device, ceilings: dict[str, Any]) -> dict[str, Any]:
    batch, words = NETWORKS[network]
    experiment = load_recipe(
        "cosine_l2", [*words, *COMMON, *WAYS[way], f"train.batch={batch}", "train.images=10000000"]
    ).experiment
    data = build_data(experiment)
    shape = DataShape.of(data)
    model = build_model(experiment, shape, device)
    objective = build_objective(experiment, shape, model)
    trainer = Trainer(experiment, model, objective, data.train, pick_precision(experiment.train.precision, device))
    inputs = torch.zeros(1, *shape.image_shape, device=device), torch.zeros(1, device=device), None
    flops = forward_flops(model.network, inputs, 1)
    step = iter(range(10**9))
    started = time.perf_counter()
    trainer.step(trainer.batch(next(step)))
    _wait(device)
    first = time.perf_counter() - started
    images = _rate(lambda: _step(trainer, next(step)), batch, device)
    teraflops = 3 * flops * spread(images)["median"] / 1e12
    return {
        "network": network, "way": way, "backbone": words[-1], "batch": batch, "flops": flops,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "images_per_second": spread(images), "teraflops": teraflops, "seconds_to_first_step": first,
        "share": teraflops / ceilings[f"convolution, {way[:4]}"]["median"],
        "gigabytes": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None,
        "waits_in_a_step": _waits(trainer, next(step), device),
    }  # fmt: skip


def _step(trainer: Trainer, number: int) -> None:
    trainer.step(trainer.batch(number))


def _waits(trainer: Trainer, number: int, device: torch.device) -> int | None:
    """How often one step makes the processor wait for the GPU, by the profiler."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    _wait(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        _step(trainer, number)
    waiting = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
    # The profiler itself waits once for the device, at its end.
    return max(sum(event.count for event in seen.key_averages() if event.key in waiting) - 1, 0)


if __name__ == "__main__":
    command.execute(main)
