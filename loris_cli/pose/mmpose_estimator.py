"""Top-down pose networks of mmpose: a box around a person -> keypoints, many boxes at a time.

mmpose's configuration + weights from a file -> network; images, boxes -> COCO-17
name of a network -> mmpose's own lists -> address -> cache -> checksum in the file's name

HRNet-W48 (Sun et al., CVPR 2019), as in the paper, RTMPose (Jiang et al., 2023) and similar
ones. mmpose would run with random weights without a warning; here a network without fitting
weights is an error.
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
"""Data sets for which mmpose has networks with the 17 keypoints."""
BATCH_SIZE = 32
"""Boxes in one batch of the network."""
MMPOSE_PURPOSE = "find poses with it"
PIXEL_CENTER_OFFSET_PX = 0.5
"""mmpose's origin is the center of the first pixel, that of loris its corner."""
FILENAME_HASH = re.compile(r"-([0-9a-f]{8})_\d{8}\.pth$")
"""mmpose names its files by the first digits of their SHA-256 and their date."""


def find_mmpose_config(network: str) -> Path:
    """Return the file of one of mmpose's configurations.

    Raises:
        MissingDependencyError: mmpose is absent.
        UsageError: mmpose has no such configuration.
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
        hint = "perhaps " + " or ".join(near)
        raise UsageError(f"mmpose has no network {network!r} of COCO's 17 joints", hint=hint)
    return configs[network]


def find_weights_url(network: str) -> str:
    """Return the address of the weights of a network, from mmpose's lists.

    Args:
        network: name of one of mmpose's configurations.

    Raises:
        WeightsError: the lists name none.
        MissingDependencyError: mmpose is absent.
        UsageError: mmpose has no such configuration.
    """
    yaml = import_optional("yaml", extra="", purpose=MMPOSE_PURPOSE)
    for path in sorted(find_mmpose_config(network).parent.glob("*.yml")):
        listing = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for model in listing.get("Models", []):
            if Path(model.get("Config", "")).stem == network and model.get("Weights"):
                return str(model["Weights"])
    raise WeightsError(f"mmpose names no weights of {network}", hint="name a file of your own")


def fetch_mmpose_weights(network: str, *, offline: bool, reporter: Reporter) -> Path:
    """Return the published weights of a network, downloaded into the cache if necessary.

    Args:
        network: name of one of mmpose's configurations.
        offline: whether nothing may be downloaded.
        reporter: of the progress.

    Raises:
        WeightsError: they cannot be downloaded, or their checksum is not the one in their name.
    """
    url = find_weights_url(network)
    path = cache_home() / "weights" / url.rpartition("/")[2]
    if not path.is_file():
        hint = f"put the file of {url} at {path}, or name one: --pose-weights FILE"
        download_file(
            url, path, sha256=None, manual_hint=hint, offline=offline, reporter=reporter
        )
    digest, expected = compute_sha256(path), FILENAME_HASH.search(path.name)
    if expected is not None and not digest.startswith(expected[1]):
        message = f"{path} does not match its name: its SHA-256 begins with {digest[:8]}"
        raise WeightsError(message, hint="remove it to download it again")
    return path


def check_mmpose_weights(weights: Path | None, network: str) -> Path:
    """Check that a network can be built, without building it.

    Args:
        weights: its file.
        network: name of one of mmpose's configurations.

    Returns:
        the configuration's file, which comes with mmpose.

    Raises:
        WeightsError: there are no weights: random ones would give poses too.
        MissingDependencyError: mmpose is absent.
        UsageError: mmpose has no such configuration.
    """
    config = find_mmpose_config(network)
    if weights is None:
        hint = f"get the weights of {network} from mmpose's model zoo, and name their file"
        raise WeightsError("mmpose's networks come without weights", hint=hint)
    if not weights.is_file():
        raise WeightsError(f"{weights} is not there", hint="check the path")
    return config


class MmposeEstimator:
    """One of mmpose's networks with its weights."""

    def __init__(
        self, weights: Path | None, *, network: str = DEFAULT_MMPOSE_CONFIG, device: str = "cpu"
    ) -> None:
        """Build the network of a configuration and load its weights.

        Args:
            weights: of mmpose's model zoo or of your own training; ``.safetensors`` too.
            network: name of the configuration.
            device: where it runs.

        Raises:
            WeightsError: the weights are absent, damaged or of another network.
            MissingDependencyError: mmpose is absent.
            UsageError: there is no such network, or it finds other keypoints.
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
            hint = f"take {DEFAULT_MMPOSE_CONFIG}"
            raise UsageError(f"{network} finds other joints than COCO's 17", hint=hint)
        load_mmpose_weights(self._model, weights)
        self._pipeline = dataset.Compose(config.test_dataloader.dataset.pipeline)
        self._collate = dataset.pseudo_collate

    def estimate_keypoints(self, images: list[Array], boxes: list[Array]) -> list[Float32Array]:
        """Return the keypoints of people in boxes: ``inference_topdown`` for many images.

        Args:
            images: red, green, blue, each ``(height, width, 3)`` uint8.
            boxes: of each image: left, top, right, bottom in px, ``(people, 4)``.

        Returns:
            for each image x px, y px, score 0..1, ``(people, 17, 3)``.
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
                    "img": np.ascontiguousarray(image[..., ::-1]),  # as OpenCV reads them
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
    """Load all weights of a network.

    Raises:
        WeightsError: they cannot be read, or are of another network.
    """
    if weights.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state_dict = load_file(weights)
        except SafetensorError as error:
            raise WeightsError(f"{weights.name} is damaged", hint="get it again") from error
    else:
        hint = "give the file of weights that belongs to the configuration"
        state_dict = read_state_dict(weights, hint=hint, nested_key="state_dict")
    expected = model.state_dict()
    # Counters of batch norms, which files may lack and inference does not use.
    counters = {k: v for k, v in expected.items() if k.endswith("num_batches_tracked")}
    state_dict = {**counters, **state_dict}
    check_state_dict(state_dict, expected, weights)
    model.load_state_dict(state_dict)
