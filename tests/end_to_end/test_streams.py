"""Runs whose random streams are of another version: not resumed, but sampled, evaluated and ranked, and told apart."""

import json
import shutil
from pathlib import Path

import torch
from conftest import Quick

from ddpm_lab.runtime.seeding import STREAMS
from ddpm_lab.storage.files import sha256


def test_a_run_of_an_older_version_is_not_resumed(quick: Quick, smoke_run: Path, tmp_path: Path) -> None:
    assert json.loads((smoke_run / "environment.json").read_text())["random_streams"] == STREAMS
    run = shutil.copytree(smoke_run, tmp_path / "smoke" / smoke_run.name)
    (run / "result.json").unlink()  # as if it had been interrupted at the very end
    file = max((run / "checkpoints").glob("*.pt"))
    state = torch.load(file, weights_only=True)
    del state["random_streams"]  # version 1 did not record itself
    torch.save(state, file)
    file.with_name(f"{file.name}.sha256").write_text(f"{sha256(file)}  {file.name}\n")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    done = quick("run", "smoke", "classes=true", "--resume", "--results", tmp_path)
    assert done.returncode == 2
    (told,) = (line for line in done.stderr.splitlines() if "error: " in line)
    assert f"{run.name} was trained with version 1 of the random streams, and this ddpm_lab has version {STREAMS}" in told
    assert "start a new run: without --resume" in told
    assert before == {file: file.read_bytes() for file in before}
    assert quick("sample", run, "-n", "2", "--steps", "2", "--out", tmp_path / "two.npz").returncode == 0


def test_images_of_another_version_are_ranked_and_told_apart(quick: Quick, smoke_run: Path, tmp_path: Path) -> None:
    for name in ("old", "new", "also_new"):
        shutil.copytree(smoke_run, tmp_path / name)
    result = json.loads((tmp_path / "old/result.json").read_text())
    made = [record["generation"] for record in result["metrics"] if "sampler" in record.get("generation", {})]
    assert {generation.pop("random_streams") for generation in made} == {STREAMS}
    (tmp_path / "old/result.json").write_text(json.dumps(result))
    done = quick("compare", "old", "new", "also_new", "-n", "128", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"(version 1: old; version {STREAMS}: new, also_new)" in done.stdout
    assert "random streams" not in quick("compare", "new", "also_new", "-n", "128", cwd=tmp_path).stdout
