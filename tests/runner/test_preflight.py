"""What `check` says of the network, and of the time that a run will take."""

import json
import random
import time

import pytest
import torch

from ddpm_lab.cli.main import main
from ddpm_lab.config.load import load_recipe
from ddpm_lab.diffusion import cost
from ddpm_lab.runner import preflight
from ddpm_lab.runner.preflight import SPEEDUP, _seconds, lines


def _work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_time_of_a_step_does_not_depend_on_what_else_the_machine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside other programs a step of 5 ms waits for its core, here for up to 0.1 s."""
    monkeypatch.setattr("ddpm_lab.runner.preflight.TRIAL_SECONDS", 0.03)
    threads, rng = torch.get_num_threads(), random.Random(0)

    def step() -> None:
        _work(0.005)
        time.sleep(rng.choice([0.0, 0.01, 0.1]))

    found = [_seconds(step, torch.device("cpu")) for _ in range(3)]
    assert found == pytest.approx([0.005 / threads**SPEEDUP] * 3, rel=0.3)
    assert torch.get_num_threads() == threads


def test_a_network_whose_operations_cannot_be_counted_is_checked_as_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at values, which a tensor without data does not have."""

    def looks(*_: object) -> int:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    monkeypatch.setattr(cost, "flops_per_image", looks)
    monkeypatch.setattr("ddpm_lab.runner.preflight.TRIAL_SECONDS", 0.03)
    found = "\n".join(lines(load_recipe("smoke"), "cpu"))
    assert "93,268 parameters\n" in found
    assert "GFLOP" not in found


def test_a_program_is_told_what_a_reader_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(preflight, "_seconds", lambda *_: 0.5)
    words = ["check", "smoke", "train.images=320"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert main([*words, "--json", "--full"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert f"{found['parameters']:,} parameters, {found['flops_per_image'] / 1e9:.3f} GFLOP" in text
    assert f"terminal SNR {found['terminal_snr']:.2e}" in text
    assert f"SHA-256 {found['data']['hash'][:12]}" in text
    assert [f"warning     {line}" for line in found["warnings"]] == [line for line in text.splitlines() if "warning" in line]
    assert found["warnings"]
    assert found["training_seconds"] == 0.5 * 320 / 32
    assert found["resolved"]["train"]["images"] == found["images"] == 320


@pytest.mark.parametrize(("loss", "said"), [("l1", True), ("huber", True), ("l2", False)])
def test_a_loss_that_is_no_square_says_what_another_space_means(monkeypatch: pytest.MonkeyPatch, loss: str, said: bool) -> None:
    """On the way of cosine an error of x_0 is 1 / sigma times as large in v: from 1 to 156 on a thousand levels."""
    monkeypatch.setattr(preflight, "_seconds", lambda *_: 0.5)
    words = ["target=x0", "loss_space=v", f"loss={loss}", "schedule=cosine", "timesteps=1000"]
    found = [line for line in lines(load_recipe("smoke", words), "cpu") if line.startswith("loss")]
    assert bool(found) is said
    if said:
        assert f"{loss} of the error in v, which is 1 to 156 times that of x0" in found[0]
