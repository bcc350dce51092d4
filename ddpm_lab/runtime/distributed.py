"""Several processes as `torchrun` starts them: who this one is, and what they tell each other.

Without torchrun there is one process, and every function here is free.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from ddpm_lab.runtime.launcher import is_main, launched, local_rank
from registry.errors import reason

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # for the others: the main process may be evaluating or fetching the data
_control: list[dist.ProcessGroup] = []  # on the CPU, so that agreeing on something never waits for a GPU


class Gone(RuntimeError):
    """Another process of this run is not there, or no longer."""


def rank() -> int:
    """The number of this process, 0 being the main one, among those that share the work."""
    return dist.get_rank() if joined() else 0


def size() -> int:
    """How many processes share the work, on all machines together."""
    return dist.get_world_size() if joined() else 1


@contextlib.contextmanager
def processes(device: torch.device) -> Iterator[None]:
    """Join the others for as long as the block lasts: nccl between GPUs, gloo between CPUs."""
    if not launched():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        _join("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except RuntimeError as error:  # of which torch's own are kinds
        raise Gone(
            f"the other processes of this run are not to be found ({reason(error)[:200]}); start all of them again"
        ) from error
    try:
        yield
    except RuntimeError as error:
        if not lost(error):
            raise
        raise Gone("another process of this run is gone; what it said last tells why") from error
    finally:
        _control.clear()
        dist.destroy_process_group()


def _join(backend: str) -> None:
    store, number, count = next(rendezvous("env://", timeout=PATIENCE))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
        # torchrun keeps its store over a restart, with the addresses of the dead in it (pytorch issue 135712). Machines
        # may count restarts differently, so several of them need a store of their own for each round (docs/distributed.md).
        store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=PATIENCE)
    _control.append(dist.new_group(backend="gloo", timeout=PATIENCE))  # type: ignore[arg-type]


def joined() -> bool:
    """Whether there are others to talk to."""
    return bool(_control)


def lost(error: RuntimeError) -> bool:
    """Whether the error says that another process is gone."""
    return joined() and (isinstance(error, dist.DistError) or "gloo" in str(error))


def barrier() -> None:
    """Wait until every process is here."""
    if joined():
        dist.barrier(group=_control[0])


def from_main(make: Callable[[], T]) -> T:
    """What `make` gives in the main process, in every process; its error too, so that none waits for an answer."""
    if not joined():
        return make()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = make()
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0, group=_control[0])
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]  # type: ignore[no-any-return]


@contextlib.contextmanager
def first_on_each_machine() -> Iterator[None]:
    """One process of a machine runs the block before the others do: it fills the caches that they then read."""
    if local_rank() != 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    if not joined():
        return flag
    found = torch.tensor(int(flag))
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=_control[0])
    return bool(found)


def mean_of(value: Tensor) -> Tensor:
    """The mean of a tensor over the processes."""
    if not joined():
        return value
    total = value.detach().cpu().double()
    dist.all_reduce(total, group=_control[0])
    return (total / size()).to(value.dtype).to(value.device)


def sum_of(value: Tensor) -> Tensor:
    """The sum of a CPU tensor over the processes."""
    if joined():
        dist.all_reduce(value, group=_control[0])
    return value


def collected(values: list[T]) -> list[T]:
    """The values of all processes, in turn, as they were dealt by `dealt`; in the main process, elsewhere an empty list."""
    if not joined():
        return values
    found: list[Any] = [None] * size()
    dist.gather_object(values, found if is_main() else None, dst=0, group=_control[0])
    if not is_main():
        return []
    longest = max(map(len, found))
    return [share[i] for i in range(longest) for share in found if i < len(share)]


def share_of(value: Tensor) -> Tensor:
    """This process's share of what belongs to a global batch, [B, ...] -> [B / processes, ...]."""
    return value.chunk(size())[rank()] if joined() else value


def in_turn(value: Tensor) -> Tensor:
    """The shares of all processes, of equal size, one behind the other; in every process."""
    if not joined():
        return value
    mine = value.detach().cpu().contiguous()
    shares = [torch.empty_like(mine) for _ in range(size())]
    dist.all_gather(shares, mine, group=_control[0])
    return torch.cat(shares).to(value.device)


def dealt(values: range) -> range:
    """This process's share of the values, dealt in turn like cards."""
    return values[rank() :: size()] if joined() else values
