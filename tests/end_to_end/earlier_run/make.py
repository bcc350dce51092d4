"""Makes this folder's run with the code of 64a06fc, the last commit before the move into packages, and records what it gave.

git worktree add --detach EARLIER 64a06fc     the code; the packages of today's environment, whose versions environment.json has
python tests/end_to_end/earlier_run/make.py EARLIER

`unfinished/` is the run as SIGTERM left it after its first checkpoint; `finished/` is the same run, resumed by that code to its
end and evaluated once more, without its checkpoint, pictures and report.html, which nothing reads again. recorded.json has the
SHA-256 of the images that code sampled and of the weights it made, and the processor that computed them; sampled.npz has the
images, for processors that compute otherwise. Everything ran on one thread in fp32.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
# What is sampled of the finished run, by the name under which recorded.json and sampled.npz have it.
SAMPLED = {
    "as_trained": ["-n", "8", "--seed", "3"],
    "dpmpp_2m": ["-n", "8", "sampling.sampler=dpmpp_2m", "sampling.grid=log_snr", "--steps", "6", "--guidance", "1.5"],
    "ddim_of_one_class": ["-n", "8", "--class", "cross", "sampling.sampler={name: ddim, eta: 0.5}", "--weights", "raw"],
}
EVALUATED = 48  # images, once more than the run itself did
POST_HOC = "0.08"  # a length of the average that the run did not have


def processor() -> dict[str, str]:
    """The name of this processor, and those of its instructions that matrix products and vector code are chosen by."""
    pairs = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
    named = {key.strip(): value.strip() for key, _, value in pairs}
    flags = sorted(flag for flag in named.get("flags", "").split() if flag.startswith(("avx", "fma", "amx", "sse4")))
    return {"name": named.get("model name", ""), "features": " ".join(flags)}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make(code: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "ddpm_lab", *words]

    def lab(*words: str) -> None:
        subprocess.run(command(*words), cwd=code, env=env, check=True)

    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        words = ["run", str(HERE / "earlier.yaml"), "--results", str(results)]
        process = subprocess.Popen(command(*words), cwd=code, env=env)
        while not list(results.glob("earlier/*/checkpoints/*.sha256")):
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM, "it came to its end before the signal: make the machine slower"
        run = (results / "latest").resolve()
        _keep(run, HERE / "unfinished", ".lock")
        lab(*words, "--resume")
        _keep(run, HERE / "finished", ".lock", "checkpoints", "samples", "*.png", "report.html")
        images, digests = {}, {}
        for name, options in SAMPLED.items():
            file = Path(folder) / f"{name}.npz"
            lab("sample", str(run), *options, "--out", str(file))
            images[name] = np.load(file)["arr_0"]
            digests[name] = digest(images[name].tobytes())
        lab("ema", str(run), "--std", POST_HOC)
        weights = {file.name: digest(file.read_bytes()) for file in sorted(run.glob("*.safetensors"))}
        lab("evaluate", str(run), "-n", str(EVALUATED))
        (measured,) = run.glob("evaluation*.json")
        shutil.copy(measured, HERE / "finished" / run.name)
        torch = json.loads((run / "environment.json").read_text())["packages"]["torch"]
    np.savez_compressed(HERE / "sampled.npz", **images)
    recorded = {"processor": processor(), "torch": torch, "images": digests, "weights": weights}
    (HERE / "recorded.json").write_text(json.dumps(recorded, indent=2) + "\n")


def _keep(run: Path, where: Path, *without: str) -> None:
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(run, where / run.name, ignore=shutil.ignore_patterns(*without))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
