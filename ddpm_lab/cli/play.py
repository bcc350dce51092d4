"""Sample from a run in the browser: any sampler, live, side by side."""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from functools import partial

from ddpm_lab.cli.arguments import add, between
from registry.errors import BadInput

# Read when gradio is imported: neither it nor what it brings is to tell anybody.
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`ddpm-lab play [RUN]`."""
    parser.add_argument(
        "run", nargs="?", help="a run's folder or a model that ships (default: the first of `list models`, else results/latest)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to serve; 0.0.0.0 is all (default: this machine only)")
    parser.add_argument("--port", type=partial(between, 1, 65535), help="default: the first free one from 7860 on")
    add(parser, "--device")


def execute(arguments: argparse.Namespace) -> None:
    """Serve the page until it is interrupted."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(SILENT, GRADIO_TEMP_DIR=scratch)
        _execute(arguments)


def _execute(arguments: argparse.Namespace) -> None:
    try:
        import gradio as gr
    except ImportError as error:
        raise BadInput(f"play: gradio is missing ({error}); `make play` installs it, or `pip install gradio`") from None
    from ddpm_lab.play.page import CSS, Watched, build
    from ddpm_lab.runtime.console import say
    from ddpm_lab.storage import shipped

    blocks = build(Watched(arguments.run or next(iter(shipped.models()), "results/latest"), arguments.device))
    # Fonts of the browser's own: others would come from the net.
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=("system-ui", "sans-serif"), font_mono="monospace")
    port = None if arguments.port is None else int(arguments.port)
    try:
        blocks.launch(
            server_name=arguments.host, server_port=port, share=False, quiet=True, prevent_thread_lock=True, theme=theme,
            css=CSS, footer_links=[], ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False, run_history=False,
        )  # fmt: skip
    except OSError as error:
        raise BadInput(f"--port: {error}; name another, or none") from None
    say(f"playground: http://{arguments.host}:{blocks.server_port}; Ctrl-C ends it")
    try:
        threading.Event().wait()
    finally:
        blocks.close()
