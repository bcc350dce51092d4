"""What the commands import, all of it, so that no command in this process, or in a fork of it, waits for that.

Their periodic samples are nine images, a quarter of what they are otherwise: tests that call `main` themselves have the rest.
"""

import importlib
import pkgutil

import ddpm_lab
from ddpm_lab.runner import callbacks

SLOW = [
    "matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "scipy.optimize", "scipy.stats",
    "torchmetrics.image.fid", "torchmetrics.image.kid", "torchvision.transforms.functional",
]  # fmt: skip
OURS = [module.name for module in pkgutil.walk_packages(ddpm_lab.__path__, "ddpm_lab.") if "__main__" not in module.name]
for name in [*SLOW, *OURS]:
    importlib.import_module(name)
importlib.import_module("ddpm_lab.runner.provenance").replaced()  # reads the syntax of all of it, and remembers that
callbacks.PREVIEW = 9
