"""mmpose's top-down networks: a box around a body -> its joints, many boxes at a time.

mmpose's own configuration + weights from a file -> network; pictures, boxes -> COCO-17

HRNet-W48 (Sun et al., CVPR 2019), as the paper has it, RTMPose (Jiang et al., 2023) and their
kin. mmpose would work with random weights without a word; here there is no network without a
file of weights that fits it.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.config import DEFAULT_MMPOSE_CONFIG
from loris_cli.errors import UsageError, WeightsError
from loris_cli.pose.keypoints import COCO_17
from loris_cli.system.atomic_files import printable_path
from loris_cli.system.optional_packages import find_package_folder, import_optional
from loris_cli.system.state_dict_files import load_torch_arrays

Array = NDArray[Any]

CONFIGS_FOLDER = ".mim/configs/body_2d_keypoint"
CONFIG_FAMILIES = ("topdown_heatmap", "rtmpose", "simcc")
CONFIG_DATASETS = ("coco", "body8")
"""Of these mmpose has networks of the 17 joints."""
BATCH_SIZE = 32
"""Boxes that the network takes at once."""
MMPOSE_PURPOSE = "find poses with it"
PIXEL_CENTER_OFFSET_PX = 0.5
"""mmpose counts from the middle of the first pixel, we from its corner."""


def check_mmpose_weights(weights: Path | None, network: str) -> Path:
    """See that a network can be had, without making it.

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
        raise WeightsError(
            "mmpose's networks come without weights",
            hint="get the file of weights that belongs to the configuration"
            f" {network} from mmpose's model zoo, and name it",
        )
    if not weights.is_file():
        raise WeightsError(f"{printable_path(weights)} is not there", hint="check the path")
    return config


def find_mmpose_config(network: str) -> Path:
    """The file of one of mmpose's configurations.

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
        raise UsageError(
            f"mmpose has no network {network!r} of one body's 17 joints",
            hint="perhaps " + " or ".join(near),
        )
    return configs[network]


class MmposeEstimator:
    """One of mmpose's networks with its weights."""

    def __init__(
        self, weights: Path | None, *, network: str = DEFAULT_MMPOSE_CONFIG, device: str = "cpu"
    ) -> None:
        """Make the network as its configuration says, and give it its weights.

        Args:
            weights: of mmpose's model zoo or of one's own training; ``.safetensors`` too.
            network: name of the configuration.
            device: where it runs.

        Raises:
            WeightsError: the weights are absent, damaged or of another network.
            MissingDependencyError: mmpose is absent.
            UsageError: there is no such network, or it finds other joints.
        """
        place = check_mmpose_weights(weights, network)
        assert weights is not None
        apis = import_optional("mmpose.apis", extra="", purpose=MMPOSE_PURPOSE)
        dataset = import_optional("mmengine.dataset", extra="", purpose=MMPOSE_PURPOSE)
        config = import_optional(
            "mmengine.config", extra="", purpose=MMPOSE_PURPOSE
        ).Config.fromfile(place)
        self._model = apis.init_model(config, None, device=device)
        names = self._model.dataset_meta["keypoint_id2name"]
        if tuple(names[k] for k in sorted(names)) != COCO_17:
            raise UsageError(
                f"the network {network} finds other joints than COCO's 17",
                hint=f"take {DEFAULT_MMPOSE_CONFIG}",
            )
        load_mmpose_weights(self._model, weights)
        self._pipeline = dataset.Compose(config.test_dataloader.dataset.pipeline)
        self._collate = dataset.pseudo_collate

    def estimate_keypoints(
        self, images: Sequence[Array], boxes: Sequence[Array]
    ) -> list[NDArray[np.float32]]:
        """Joints of the bodies in boxes: mmpose's ``inference_topdown`` for many pictures.

        Args:
            images: red, green, blue, each ``(height, width, 3)`` uint8.
            boxes: of each picture: left, top, right, bottom in px, ``(bodies, 4)``.

        Returns:
            for each picture x px, y px, score 0..1, ``(bodies, 17, 3)``.
        """
        wanted = (
            (picture, box)
            for picture, around in zip(images, boxes, strict=True)
            for box in around
        )
        found = list(self._estimate_batches(wanted))
        ends = np.cumsum([0, *(len(around) for around in boxes)])
        empty = np.zeros((0, len(COCO_17), 3), np.float32)
        return [
            np.stack(found[start:stop]) if stop > start else empty
            for start, stop in pairwise(ends)
        ]

    def _estimate_batches(
        self, crops: Iterator[tuple[Array, Array]]
    ) -> Iterator[NDArray[np.float32]]:
        while batch := [
            self._pipeline(
                {
                    "img": np.ascontiguousarray(picture[..., ::-1]),  # as OpenCV reads them
                    "bbox": (box[None] - PIXEL_CENTER_OFFSET_PX).astype(np.float32),
                    "bbox_score": np.ones(1, np.float32),
                    **self._model.dataset_meta,
                }
            )
            for picture, box in islice(crops, BATCH_SIZE)
        ]:
            with torch.no_grad():
                samples = self._model.test_step(self._collate(batch))
            for sample in samples:
                places = sample.pred_instances.keypoints[0] + PIXEL_CENTER_OFFSET_PX
                scores = sample.pred_instances.keypoint_scores[0].clip(0, 1)
                yield np.column_stack([places, scores]).astype(np.float32)


def load_mmpose_weights(model: torch.nn.Module, weights: Path) -> None:
    """Give a network its weights, all of them.

    Raises:
        WeightsError: they cannot be read, or are of another network.
    """
    name = printable_path(weights.name)
    if weights.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            content: object = load_file(weights)
        except SafetensorError as error:
            raise WeightsError(f"{name} is damaged", hint="get it again") from error
    else:
        content = load_torch_arrays(weights, display_name=name)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise WeightsError(f"{name} holds no weights", hint="get it again")
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # of other shapes
        raise WeightsError(
            f"{name} is of another network", hint="name the configuration that it belongs to"
        ) from error
    lost = [key for key in missing if not key.endswith("num_batches_tracked")]
    if lost or unknown:
        odd = f"lacks {lost[0]}" if lost else f"has {unknown[0]} besides"
        raise WeightsError(
            f"{name} is of another network: it {odd}",
            hint="name the configuration that it belongs to",
        )
