"""W&B beside the run's own files: the same numbers and pictures, never a prompt, never a lost run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from ddpm_lab.experiment import Track
from ddpm_lab.progress import say

Mode = Literal["online", "offline", "disabled"]
INIT_PATIENCE = 20  # seconds


class Tracker:
    """The calls of a run; each goes to W&B where the run is tracked, and to nowhere where it is not.

    A failure of W&B is said once, and the run goes on with its local files.
    """

    def __init__(self, track: Track, folder: Path, name: str, group: str, config: dict[str, Any]) -> None:
        self._run: Any = None
        self.mode: Mode = _mode(track)
        if self.mode == "disabled":
            return
        with self._surviving("starting W&B"):
            self._run = self._start(track, folder, name, group, config)
        if self._run is None and self.mode == "online":
            self.mode = "offline"
            with self._surviving("starting W&B offline"):
                self._run = self._start(track, folder, name, group, config)
        if self._run is None:
            self.mode = "disabled"
            return
        with self._surviving("setting up W&B"):
            # The abscissa is a metric of its own: W&B drops a step that it has seen, as after a resume.
            self._run.define_metric("images")
            self._run.define_metric("*", step_metric="images")

    @property
    def where(self) -> str:
        """Where the run can be looked at."""
        if self._run is None:
            return "not tracked"
        return str(self._run.url) if self.mode == "online" else f"offline; `wandb sync {Path(self._run.dir).parent}` uploads it"

    def log(self, row: dict[str, Any]) -> None:
        """Numbers, `images` among them."""
        self._call("logging", lambda run: run.log(row))

    def picture(self, key: str, file: Path, caption: str, images: int) -> None:
        """A PNG with a caption."""

        def send(run: Any) -> None:
            import wandb

            run.log({key: wandb.Image(str(file), caption=caption), "images": images})

        self._call("logging a picture", send)

    def summary(self, values: dict[str, Any]) -> None:
        """What the run came to."""
        self._call("writing the summary", lambda run: run.summary.update(values))

    def weights(self, file: Path, metadata: dict[str, Any]) -> None:
        """Weights as an artifact."""

        def send(run: Any) -> None:
            import wandb

            artifact = wandb.Artifact(f"{file.stem}-{run.id}", type="model", metadata=metadata)
            artifact.add_file(str(file))
            run.log_artifact(artifact, aliases=["latest"])

        self._call("uploading the weights", send)

    def finish(self, failed: bool = False) -> None:
        """End the W&B run."""
        self._call("finishing", lambda run: run.finish(exit_code=1 if failed else 0))

    def _call(self, what: str, call: Callable[[Any], object]) -> None:
        if self._run is not None:
            with self._surviving(what):
                call(self._run)

    def _start(self, track: Track, folder: Path, name: str, group: str, config: dict[str, Any]) -> Any:
        import wandb  # 0.6 s, which an untracked run does not spend

        if not os.environ.get("WANDB_MODE"):
            os.environ.pop("WANDB_MODE", None)  # set but empty, it is refused by the client

        settings = wandb.Settings(silent=True, console="off", init_timeout=INIT_PATIENCE, x_disable_stats=False)
        return wandb.init(
            project=track.project, entity=track.entity, name=name, group=group, dir=str(folder), config=config,
            mode=self.mode, settings=settings,
        )  # fmt: skip

    @contextlib.contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # nothing that happens to W&B is worth a run
            self._run = None
            say(f"W&B failed while {what} ({' '.join(str(error).split())[:200]}); the run goes on, its files have everything")


def _mode(track: Track) -> Mode:
    """The mode, decided before `wandb.init`, which would otherwise ask on a terminal and fail elsewhere."""
    if track.name == "none":
        return "disabled"
    chosen = os.environ.get("WANDB_MODE", "") if track.mode == "auto" else track.mode
    if os.environ.get("WANDB_MODE") == "disabled" or chosen == "disabled":
        return "disabled"
    if chosen == "offline":
        return "offline"
    if _logged_in():
        return "online"
    if chosen == "online":
        say("W&B: online was asked for, but nobody is logged in; tracking offline (`wandb login` mends this)")
    return "offline"


def _logged_in() -> bool:
    """Whether W&B has a key: in the environment, or in the netrc file for its server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc
    from urllib.parse import urlsplit

    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").hostname or ""
    file = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(str(file)).authenticators(host) is not None
    return False
