"""Where numbers lie: float64 on the device that has it, else on the CPU, and how they get from there to the images."""

import torch
from torch import Tensor

CPU = torch.device("cpu")
EXACT = {"cpu", "cuda"}  # Apple's GPUs lack float64, and so do many of Intel's


def exact_device(device: torch.device) -> torch.device:
    """Where the float64 of a computation on `device` lies: noise levels, and what the noise path makes of them."""
    return device if device.type in EXACT else CPU


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on that device. An accelerator is not waited for, which on CUDA needs pinned memory."""
    if tensor.device == device or device.type == "cpu":
        return tensor.to(device)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
