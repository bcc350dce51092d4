"""A wheel built from this checkout works where the checkout is not, with the experiments, sweeps and suites that it carries."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

import ddpm_lab as lab
from ddpm_lab.export import export
from ddpm_lab.storage import shipped


@pytest.mark.slow
def test_a_wheel_works_outside_the_repository(smoke_run: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in ("ddpm_lab", "registry"):
        shutil.copytree(ROOT / name, tmp_path / "source" / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, tmp_path / "source" / name)
    export(lab.load(smoke_run), None, tmp_path / "source/ddpm_lab/carried/models/drawn")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(tmp_path / "source")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 10_000_000
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    (away := tmp_path / "away").mkdir()
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*words: str, status: int = 0, command: tuple[str, ...] = ("-m", "ddpm_lab")) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run([sys.executable, *command, *words], cwd=away, env=env, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done

    where = run(command=("-c", "import ddpm_lab, registry; print(ddpm_lab.__file__, registry.__file__)")).stdout
    assert where.count(str(tmp_path / "site")) == 2
    (away / "mine.yaml").write_text("extends: cosine_l2\nloss: huber\n")
    assert "name: huber" in run("check", "mine.yaml", "dataset={name: shapes, size: 16, count: 64}", "--full").stdout
    assert "FID" in run("run", "smoke", "train.images=64", "evaluate.n=8").stderr
    assert (away / "results/latest/report.html").exists()
    assert run("sweep", "smoke", "train.images=64", "evaluate.n=8", "evaluate.every=null").stdout.count("finished") == 4
    listed = {line.split()[0] for line in run("list", "experiments").stdout.splitlines()}
    assert listed == {file.stem for file in (ROOT / "experiments").glob("*.yaml")}
    known = [line.split()[0] for line in run("list", "models").stdout.splitlines()]
    assert known == sorted(["drawn", *shipped.models()])
    for name in known:
        assert f"results/{name}/" in run("sample", name, "-n", "4", "--steps", "2").stderr
    for suite in (ROOT / "benchmarks/suites").glob("*.yaml"):
        assert "no run of the suite is finished" in run("bench", suite.stem, "--report", status=2).stderr
    (away / "smoke.yaml").write_text(json.dumps({"about": "One run.", "experiments": ["smoke"], "seeds": [0]}))
    run("bench", "smoke.yaml")
    assert (away / "results/suites/smoke/report/report.html").exists()
