"""Top-down pose estimation with mmpose networks, in batches of person boxes.

    mmpose config, weights file -> network; images, boxes -> COCO-17 keypoints
    network name -> mmpose's model index -> URL -> cache -> check of the hash in the file name

Supports HRNet-W48 (Sun et al., CVPR 2019), as in the paper, RTMPose (Jiang et al., 2023) and
similar networks. mmpose runs with random weights without a warning; here, missing or
mismatched weights are an error.
"""

import difflib
import re
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch

from loris_cli.array_types import Float32Array
from loris_cli.config import DEFAULT_MMPOSE_CONFIG, cache_home
from loris_cli.errors import UsageError, WeightsError
from loris_cli.pose.keypoints import COCO_17, Array
from loris_cli.system.downloads import download_file
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.optional_packages import find_package_folder, import_optional
from loris_cli.system.progress import Reporter
from loris_cli.system.state_dict_files import check_state_dict, read_state_dict

CONFIGS_FOLDER = ".mim/configs/body_2d_keypoint"
CONFIG_FAMILIES = ("topdown_heatmap", "rtmpose", "simcc")
CONFIG_DATASETS = ("coco", "body8")
"""Data sets for which mmpose provides networks with the 17 COCO keypoints."""
BATCH_SIZE = 32
"""Number of boxes per batch."""
MMPOSE_PURPOSE = "estimate poses with mmpose"
PIXEL_CENTER_OFFSET_PX = 0.5
"""mmpose's origin is the center of the first pixel; ours is its corner."""
FILENAME_HASH = re.compile(r"-([0-9a-f]{8})_\d{8}\.pth$")
"""mmpose file names end with the first eight digits of the SHA-256, and a date."""


def find_mmpose_config(network: str) -> Path:
    """Return the path of an mmpose config.

    Args:
        network: name of the config.

    Raises:
        MissingDependencyError: mmpose is not installed.
        UsageError: mmpose has no such config.
    """
    folder = find_package_folder("mmpose", extra="", purpose=MMPOSE_PURPOSE)
    configs = {
        path.stem: path
        for family in CONFIG_FAMILIES
        for dataset in CONFIG_DATASETS
        for path in sorted((folder / CONFIGS_FOLDER / family / dataset).glob("*.py"))
    }
    if network not in configs:
        near = difflib.get_close_matches(network, configs, n=3, cutoff=0.0)
        hint = "similar names: " + ", ".join(near)
        raise UsageError(f"mmpose has no COCO-17 config named {network!r}", hint=hint)
    return configs[network]


def find_weights_url(network: str) -> str:
    """Return the URL of the weights of a network, from mmpose's model index.

    Args:
        network: name of an mmpose config.

    Raises:
        WeightsError: the index lists no weights for the network.
        MissingDependencyError: mmpose is not installed.
        UsageError: mmpose has no such config.
    """
    yaml = import_optional("yaml", extra="", purpose=MMPOSE_PURPOSE)
    for path in sorted(find_mmpose_config(network).parent.glob("*.yml")):
        listing = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for model in listing.get("Models", []):
            if Path(model.get("Config", "")).stem == network and model.get("Weights"):
                return str(model["Weights"])
    raise WeightsError(
        f"mmpose lists no weights for {network}",
        hint="pass a weights file: --pose-weights FILE",
    )


def fetch_mmpose_weights(network: str, *, offline: bool, reporter: Reporter) -> Path:
    """Return the path of a network's published weights, downloading them if not cached.

    Args:
        network: name of an mmpose config.
        offline: disable downloads.
        reporter: receiver of download progress.

    Raises:
        WeightsError: the download failed, or the hash does not match the file name.
    """
    url = find_weights_url(network)
    path = cache_home() / "weights" / url.rpartition("/")[2]
    if not path.is_file():
        hint = f"download {url} to {path}, or pass a weights file: --pose-weights FILE"
        download_file(
            url, path, sha256=None, manual_hint=hint, offline=offline, reporter=reporter
        )
    digest, expected = compute_sha256(path), FILENAME_HASH.search(path.name)
    if expected is not None and not digest.startswith(expected[1]):
        message = f"{path} is damaged: SHA-256 {digest[:8]}... does not match the file name"
        raise WeightsError(message, hint="delete the file to download it again")
    return path


def check_mmpose_weights(weights: Path | None, network: str) -> Path:
    """Check that the config and the weights file of a network exist, without loading them.

    Args:
        weights: weights file, or None if not set.
        network: name of an mmpose config.

    Returns:
        Path of the config in the mmpose package.

    Raises:
        WeightsError: the weights are missing; mmpose would use random weights instead.
        MissingDependencyError: mmpose is not installed.
        UsageError: mmpose has no such config.
    """
    config = find_mmpose_config(network)
    if weights is None:
        hint = (
            f"download the weights for {network} from the mmpose model zoo"
            " and pass --pose-weights FILE"
        )
        raise WeightsError("mmpose networks require a weights file", hint=hint)
    if not weights.is_file():
        raise WeightsError(f"weights file {weights} does not exist", hint="check the path")
    return config


class MmposeEstimator:
    """Pose estimator based on an mmpose network."""

    def __init__(
        self, weights: Path | None, *, network: str = DEFAULT_MMPOSE_CONFIG, device: str = "cpu"
    ) -> None:
        """Build the network of a config and load its weights.

        Args:
            weights: ``.pth`` or ``.safetensors`` file, from the mmpose model zoo or custom
                training.
            network: name of the config.
            device: torch device.

        Raises:
            WeightsError: the weights are missing, damaged or belong to another network.
            MissingDependencyError: mmpose is not installed.
            UsageError: mmpose has no such config, or it does not output COCO-17 keypoints.
        """
        path = check_mmpose_weights(weights, network)
        assert weights is not None
        apis, dataset, configs = (
            import_optional(module, extra="", purpose=MMPOSE_PURPOSE)
            for module in ("mmpose.apis", "mmengine.dataset", "mmengine.config")
        )
        config = configs.Config.fromfile(path)
        self._model = apis.init_model(config, None, device=device)
        names = self._model.dataset_meta["keypoint_id2name"]
        if tuple(names[k] for k in sorted(names)) != COCO_17:
            hint = f"use {DEFAULT_MMPOSE_CONFIG}"
            raise UsageError(f"{network} does not output the 17 COCO keypoints", hint=hint)
        load_mmpose_weights(self._model, weights)
        self._pipeline = dataset.Compose(config.test_dataloader.dataset.pipeline)
        self._collate = dataset.pseudo_collate

    def estimate_keypoints(self, images: list[Array], boxes: list[Array]) -> list[Float32Array]:
        """Estimate keypoints in boxes: mmpose's ``inference_topdown`` for several images.

        Args:
            images: RGB images, each ``(height, width, 3)`` uint8.
            boxes: for each image, left, top, right, bottom in px, ``(people, 4)``.

        Returns:
            For each image, x px, y px and score 0..1, ``(people, 17, 3)``.
        """
        pairs = zip(images, boxes, strict=True)
        crops = ((image, box) for image, image_boxes in pairs for box in image_boxes)
        people = list(self._estimate_batches(crops))
        keypoints = np.array(people, np.float32).reshape(-1, len(COCO_17), 3)
        ends = np.cumsum([0, *map(len, boxes)])
        return [keypoints[start:stop] for start, stop in pairwise(ends)]

    def _estimate_batches(self, crops: Iterator[tuple[Array, Array]]) -> Iterator[Array]:
        while batch := list(islice(crops, BATCH_SIZE)):
            inputs = [
                {
                    "img": np.ascontiguousarray(image[..., ::-1]),  # mmpose expects BGR
                    "bbox": (box[None] - PIXEL_CENTER_OFFSET_PX).astype(np.float32),
                    "bbox_score": np.ones(1, np.float32),
                    **self._model.dataset_meta,
                }
                for image, box in batch
            ]
            with torch.no_grad():
                samples = self._model.test_step(self._collate([*map(self._pipeline, inputs)]))
            for sample in samples:
                positions = sample.pred_instances.keypoints[0] + PIXEL_CENTER_OFFSET_PX
                scores = sample.pred_instances.keypoint_scores[0].clip(0, 1)
                yield np.column_stack([positions, scores]).astype(np.float32)


def load_mmpose_weights(model: torch.nn.Module, weights: Path) -> None:
    """Load all weights of a network from a file.

    Raises:
        WeightsError: the file cannot be read, or belongs to another network.
    """
    if weights.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state_dict = load_file(weights)
        except SafetensorError as error:
            raise WeightsError(
                f"{weights.name} is damaged", hint="download it again"
            ) from error
    else:
        hint = "pass the weights file that matches the config"
        state_dict = read_state_dict(weights, hint=hint, nested_key="state_dict")
    expected = model.state_dict()
    # Files may lack the batch counters of batch normalization; inference does not use them.
    counters = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    state_dict = {**counters, **state_dict}
    check_state_dict(state_dict, expected, weights)
    model.load_state_dict(state_dict)
