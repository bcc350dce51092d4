"""The IDX format of MNIST and its descendants: four magic bytes, big-endian sizes, then the values."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from registry.errors import BadInput
from registry.files import ARRAYS, open_file

UINT8 = 8
BLOCK = 2**20
LARGEST = 2**26  # values: Fashion-MNIST has 47 million


def read_idx(file: Path, largest: int = LARGEST) -> Tensor:
    """The uint8 tensor in an IDX file, plain or gzipped.

    Raises:
        BadInput: the file is missing, damaged, truncated, or promises more than it holds or than can be meant.
    """
    try:
        with open_file(file, ARRAYS) as packed, gzip.open(packed) if file.suffix == ".gz" else packed as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UINT8 or not magic[3]:
                raise BadInput(f"{file}: not an IDX file of bytes (it starts with {magic.hex(' ')})")
            sizes = stream.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise BadInput(f"{file}: truncated inside its header")
            shape = struct.unpack(f">{magic[3]}I", sizes)
            count = math.prod(shape)
            if len(shape) > 4 or not count:
                raise BadInput(f"{file}: its sizes are {list(shape)}; images [N, H, W] or labels [N] were expected")
            if count > largest:
                raise BadInput(f"{file}: its header promises {count} values, more than any data set of this kind")
            # By blocks, because one read would ask for the memory that the header promises.
            values = bytearray()
            while len(values) <= count and (block := stream.read(min(BLOCK, count + 1 - len(values)))):
                values += block
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file}: cannot be read ({error})") from None
    if len(values) != count:
        found = "more" if len(values) > count else str(len(values))
        raise BadInput(f"{file}: its header promises {count} values, it holds {found}; the file is damaged")
    return torch.frombuffer(values, dtype=torch.uint8).reshape(shape)
