"""An accelerator without float64 that computes on the CPU: what would fail or wait on one shows on any machine.

Python sees tensors on `mps`. To C++ they lie on `lazy`, whose gradients are computed without a driver; what a kernel of the
accelerator would do, the CPU's does with the values that are held beside.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

MPS, CPU, LAZY = torch.device("mps"), torch.device("cpu"), torch.device("lazy")
WHOLE = {"quantile"}  # widens its ranks for a device that it does not know; on mps they are torch's affair
SHAPES = torch.device("meta")  # where torch's own code asks for shapes alone
READS = {"_local_scalar_dense", "nonzero", "_unique2", "equal", "masked_select"}  # what the CPU needs the values of


class There(Tensor):
    """A tensor on the accelerator; its values are `held` on the CPU."""

    held: Tensor
    device = property(lambda self: MPS)  # type: ignore[assignment]
    is_meta = False  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        self: There = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=LAZY
        )
        self.held = held
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func}: the accelerator has gone")


class Refused(RuntimeError):
    """What an accelerator would refuse."""


class FakeGenerator(torch.Generator):
    """A generator that says where it is."""

    def __new__(cls, device: torch.device | str = "cpu") -> FakeGenerator:
        self: FakeGenerator = super().__new__(cls)
        self.where = torch.device(device)
        return self

    device = property(lambda self: self.where)  # type: ignore[assignment]


class Kernels(TorchDispatchMode):
    """What each operation does; `waits` counts by operation how often the CPU waited for the accelerator.

    Raises:
        Refused: float64 on it, or tensors of both devices (but for one without dimensions on the CPU).
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.ran: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [leaf for leaf in leaves if isinstance(leaf, There)]
        asked = kwargs.get("device")
        lands = bool(there) if asked is None else asked.type in (LAZY.type, MPS.type)
        if name == "copy_":
            lands = isinstance(args[0], There)
        if not there and not lands:
            return func(*args, **kwargs)
        if torch.is_inference_mode_enabled() and name not in WHOLE:
            with self:  # what is made of other operations comes as it is where there is no autograd to take it apart
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        self.ran[name] += 1
        if name in ("_to_copy", "copy_"):
            self._copied(args[name == "copy_"], lands, asked, bool(kwargs.get("non_blocking")) or args[2:] == (True,))
        else:
            self.waits[name] += name in READS
            alien = [leaf for leaf in leaves if leaf.device == CPU and leaf.ndim]
            if there and alien:
                raise Refused(f"{func}: {list(alien[0].shape)} on the CPU meets {list(there[0].shape)} on the accelerator")
        if name == "_efficientzerotensor":  # of a derivative
            return There(torch.zeros(*args, dtype=kwargs["dtype"]))
        if asked is not None:
            kwargs["device"] = CPU
        found = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if name == "copy_":
            return args[0]
        return self._wrapped(func, found, there) if lands else found

    def _copied(self, source: Tensor, lands: bool, asked: torch.device | None, non_blocking: bool) -> None:
        if isinstance(source, There) and not lands and asked != SHAPES:
            self.waits["copy to the CPU"] += 1
        elif not isinstance(source, There) and source.numel() and not non_blocking:
            self.waits["copy from the CPU"] += 1

    def _wrapped(self, func: Any, found: Any, there: list[There]) -> Any:
        known = {id(leaf.held): leaf for leaf in there}  # what an operation in place gives is the tensor itself
        # A view of a parameter is no inference tensor.
        inference = torch.is_inference_mode_enabled() and not (func.is_view and there and not there[0].is_inference())

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor) or id(value) in known:
                return known.get(id(value), value)
            if value.dtype == torch.float64:
                raise Refused(f"{func}: float64 on the accelerator")
            with torch.inference_mode(inference):
                return There(value)

        return tree_map(wrapped, found)


class Devices(TorchFunctionMode):
    """Names of the device as C++ is to see them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def seen(value: Any) -> Any:
            return LAZY if isinstance(value, (str, torch.device)) and str(value).startswith("mps") else value

        if func in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], There):
            return func(args[0].detach().cpu())
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        return func(*(seen(value) for value in args), **{key: seen(value) for key, value in (kwargs or {}).items()})


def _held(value: Any) -> Any:
    if isinstance(value, There):
        return value.held
    return torch.zeros_like(value, device=CPU) if isinstance(value, Tensor) and value.is_meta else value


@contextlib.contextmanager
def fake_accelerator() -> Iterator[Kernels]:
    """While it is entered, `mps` is there."""
    layers = FakeGenerator("mps")
    with pytest.MonkeyPatch.context() as patch, Devices(), Kernels() as kernels:
        patch.setattr(torch, "Generator", FakeGenerator)
        patch.setattr(torch.mps, "is_available", lambda: True)
        patch.setattr(torch.mps, "_get_default_mps_generator", lambda: layers)
        yield kernels
