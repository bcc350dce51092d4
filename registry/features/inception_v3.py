"""inception_v3: the network of published FIDs, as torch-fidelity ports it."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

import torch
from torch import Tensor

from registry.errors import BadInput, reason
from registry.features import FEATURES
from registry.files import WEIGHTS, required

DOWNLOAD_PATIENCE = 20.0  # seconds without a byte
REMEDY = "name a local copy with `{name: inception_v3, weights: PATH}`"


@FEATURES.register("inception_v3")
class InceptionV3Features:
    """The 2015 Inception network of published FIDs, ported by torch-fidelity (Heusel et al. 2017); pool features, D = 2048.

    `weights` is a local copy of its state; without it torch-fidelity fetches its own.
    """

    dimension = 2048
    class_names = None  # ImageNet's and eight more
    classes = 1008
    resize = "gray repeated to RGB; to 299 x 299 by TensorFlow 1's bilinear rule (torch-fidelity)"

    def __init__(self, *, weights: str | None = None) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # slow to import

        file = None if weights is None else _checked(Path(weights).expanduser())
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(DOWNLOAD_PATIENCE)
        try:
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat",
                ["2048", "logits_unbiased"],
                feature_extractor_weights_path=file,
            )
        except OSError as error:  # urllib's failures are OSErrors too
            raise BadInput(f"inception_v3: its weights cannot be fetched ({error}); {REMEDY}") from None
        except Exception as error:
            raise BadInput(f"inception_v3: weights: '{weights}' does not hold them ({reason(error)})") from None
        finally:
            socket.setdefaulttimeout(patience)
        self.network = network.eval()
        self.hash = _state_hash(network)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.network.to(images.device)
        rgb = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        features, logits = self.network(rgb)
        return features, logits


def _checked(file: Path) -> str:
    """The path, once the file is known to hold tensors and nothing else: torch-fidelity would unpickle whatever it holds."""
    try:
        torch.load(required(file, WEIGHTS), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput(f"inception_v3: weights: no file '{file}'") from None
    except Exception as error:  # a damaged pickle can raise almost anything
        raise BadInput(f"inception_v3: weights: '{file}' does not hold plain tensors ({reason(error)})") from None
    return str(file)


def _state_hash(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().data)
    return digest.hexdigest()
