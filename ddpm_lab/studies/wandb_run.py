"""A suite at W&B: its tables, pictures and page, in a run of their own.

A process by itself with a limited time, so that whatever happens at W&B costs no report.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ddpm_lab.config.schema import Track
from ddpm_lab.runtime.console import say
from ddpm_lab.tracking import client
from ddpm_lab.tracking.login import mode_of

PATIENCE = float(os.environ.get("SUITE_PATIENCE", "120"))  # seconds that W&B gets
PROJECT = "ddpm_lab"


def send(name: str, folder: Path, report: Path) -> None:
    """Send the report where W&B is wanted; offline, `folder` keeps what `wandb sync` takes."""
    mode = mode_of(Track())
    if mode == "disabled":
        return
    command = [sys.executable, "-m", "ddpm_lab.studies.wandb_run", name, os.fspath(folder), os.fspath(report)]
    child = subprocess.Popen(
        command, env={**os.environ, "WANDB_MODE": mode, "WANDB_SILENT": "true"}, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        said, complaint = child.communicate(timeout=PATIENCE)
        trouble = (complaint.strip().splitlines() or ["it failed"])[-1][:300] if child.returncode else ""
    except subprocess.TimeoutExpired:
        said, trouble = "", f"it did not take everything within {PATIENCE:g} s"
    finally:  # the client has processes of its own
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    if trouble:
        say(f"W&B: {trouble}; the report is whole, and the same command sends it again")
    elif mode == "offline":
        say(f"W&B: offline; `wandb sync {folder}/wandb/offline-run-*` uploads it")
    else:
        say(f"W&B: {said.strip()}")


def _log(name: str, folder: Path, report: Path) -> str:
    import wandb

    found: dict[str, Any] = json.loads((report / "report.json").read_text())
    about = folder / "wandb.json"
    known = json.loads(about.read_text()) if about.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        # The client would write its own files where the user works.
        os.environ |= {"WANDB_DATA_DIR": scratch, "WANDB_CACHE_DIR": scratch}
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=f"suite {name}", job_type="suite", group=name,
            id=known.get("id"), resume="allow", dir=folder, save_code=False,
            settings=client.settings(),
            config={key: found[key] for key in ("about", "budget", "set", "seeds", "metrics", "environment", "protocols")},
        )  # fmt: skip
        about.write_text(json.dumps({"id": run.id}) + "\n")
        run.log(_tables(found) | _pictures(report) | {"report": wandb.Html(str(report / "report.html"))})
        best = found["experiments"][0]
        run.summary.update({"best": best["name"], found["metrics"][0]: best["typical"]["value"]})
        url = run.url or ""
        run.finish()
    return url


def _tables(found: dict[str, Any]) -> dict[str, Any]:
    import wandb

    metrics = found["metrics"]
    ranking = [
        [rank, one["name"], one["typical"]["value"], *(one["typical"]["interval"] or (None, None)), one["finished"],
         *(one["means"][metric] for metric in metrics[1:])]
        for rank, one in enumerate(found["experiments"], 1)
        if one["typical"]
    ]  # fmt: skip
    runs = [
        [run["experiment"], run["seed"], run["status"], run.get("training_seconds"), run.get("peak_gigabytes"),
         *(run["metrics"].get(metric, {}).get("value") if run["status"] == "finished" else None for metric in metrics)]
        for one in found["experiments"]
        for run in one["runs"]
    ]  # fmt: skip
    effects = [
        [factor, row["level"], row["ratio"], *(row["interval"] or (None, None)), row["pairs"]]
        for factor, effect in found["factors"].items()
        for row in effect["levels"]
    ]
    curves: dict[str, list[Any]] = {}
    for one in found["experiments"]:
        for point in one["curve"]:
            row = [one["name"], point["curve"], point["evaluations"], point["value"], *(point["interval"] or (None, None))]
            curves.setdefault(point["metric"], []).append(row)
    head = ["rank", "experiment", metrics[0], "low", "high", "runs", *metrics[1:]]
    tables = {
        "ranking": (head, ranking),
        "runs": (["experiment", "seed", "status", "training_seconds", "peak_gigabytes", *metrics], runs),
        "effects": (["factor", "level", "ratio", "low", "high", "pairs"], effects),
    }
    for metric, rows in curves.items():
        head = ["experiment", "sampler", "evaluations", metric, "low", "high"]
        tables["curves" if metric == found["main"] else f"curves, {metric}"] = head, rows
    return {name: wandb.Table(columns=columns, data=rows) for name, (columns, rows) in tables.items() if rows}


def _pictures(report: Path) -> dict[str, Any]:
    import wandb

    return {f"samples/{file.stem}": wandb.Image(str(file)) for file in sorted((report / "samples").glob("*.png"))}


if __name__ == "__main__":
    try:
        print(_log(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    except Exception as error:  # one line for the one who waits
        print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        raise SystemExit(1) from None
