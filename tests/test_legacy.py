"""The field's older packages do real work beside the core, where `make legacy` put them."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import import_optional

# Deprecation warnings of these packages, which their authors do not fix any more.
pytestmark = [
    pytest.mark.legacy,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


def legacy(module: str) -> Any:
    """The module through our own door; the test is skipped where it is not installed."""
    try:
        return import_optional(module, extra="", purpose="run this test")
    except MissingDependencyError as missing:
        return pytest.skip(f"{missing}: `make legacy` installs it")


@pytest.fixture
def silent_mmengine() -> Iterator[None]:
    """Give back the log handlers that mmengine puts in place at every model."""
    import logging

    before = logging.root.manager.loggerDict.copy()
    yield
    for name in set(logging.root.manager.loggerDict) - set(before):
        logging.getLogger(name).handlers.clear()


def test_mmpose_places_joints_with_its_own_configuration(silent_mmengine: None) -> None:
    apis = legacy("mmpose.apis")
    mmpose = legacy("mmpose")
    config = legacy("mmengine.config").Config.fromfile(
        Path(mmpose.__file__).parent
        / ".mim/configs/body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py"
    )
    config.model.backbone.init_cfg = None  # it names a download
    legacy("torch").manual_seed(0)
    model = apis.init_model(config, None, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    box = np.array([[40.0, 20.0, 200.0, 220.0]])

    (found,) = apis.inference_topdown(model, image, box)
    (again,) = apis.inference_topdown(model, image, box)

    joints = found.pred_instances.keypoints
    assert joints.shape == (1, 17, 2)
    # Random weights know nothing of joints, but top-down means inside the box
    # of 160 by 200 px, grown to the network's 3 by 4 and then by a quarter.
    centre, half = np.array([120.0, 120.0]), 1.25 * np.array([160, 160 * 4 / 3]) / 2
    assert (np.abs(joints - centre) <= half + 1).all()
    assert len(np.unique(joints[0], axis=0)) > 1
    np.testing.assert_array_equal(joints, again.pred_instances.keypoints)


def test_mmpose_keeps_no_stand_in_for_what_it_lacks() -> None:
    legacy("mmpose.apis")
    assert "mmdet" not in sys.modules
    assert "mmcv._ext" not in sys.modules


def test_an_operator_that_mmcv_lite_lacks_says_so() -> None:
    legacy("mmpose.apis")
    operators = legacy("mmcv.ops")
    boxes = np.array([[0, 0, 1, 1]], dtype=np.float32)
    with pytest.raises(NotImplementedError, match=r"mmcv\._ext\.nms is not installed"):
        operators.nms(boxes, np.ones(1, dtype=np.float32), 0.5)


@pytest.mark.parametrize("method", ["superflux", "RNN"])
def test_madmom_hears_clicks_when_they_sound(method: str) -> None:
    onsets = legacy("madmom.features.onsets")
    signal = legacy("madmom.audio.signal").Signal
    clicks_s = [0.5, 1.25, 2.0, 3.1]
    rng = np.random.default_rng(0)
    audio = np.zeros(4 * 44_100, dtype=np.float32)
    for click_s in clicks_s:
        start = round(click_s * 44_100)
        audio[start : start + 200] = rng.normal(size=200) / 2

    # 44.1 kHz is what madmom works at: at another rate it looks for an ffmpeg program.
    samples = signal(audio, sample_rate=44_100, num_channels=1)
    if method == "RNN":
        strength = onsets.RNNOnsetProcessor(fps=100)(samples)
        times_s = onsets.OnsetPeakPickingProcessor(fps=100, threshold=0.5)(strength)
    else:
        flux = onsets.SpectralOnsetProcessor("superflux", fps=100, sample_rate=44_100)
        strength = flux(samples)
        picker = onsets.OnsetPeakPickingProcessor(fps=100, threshold=strength.max() / 2)
        times_s = picker(strength)

    np.testing.assert_allclose(times_s, clicks_s, atol=0.025)  # two frames and a half


def test_pytorchvideo_sees_features_of_2048_channels() -> None:
    hub = legacy("pytorchvideo.models.hub")
    import torch

    torch.manual_seed(0)
    model = hub.i3d_r50(pretrained=False).eval()
    clip = torch.rand(1, 3, 8, 224, 224)

    with torch.no_grad():
        features = clip
        for block in model.blocks[:-1]:  # the last one is the classifier
            features = block(features)
        classes = model.blocks[-1](features)

    assert features.shape == (1, 2048, 4, 7, 7)  # time halved, space divided by 32
    assert features.std() > 0
    assert classes.shape == (1, 400)


def test_spleeter_takes_sound_apart_into_stems_that_sum_to_it(tmp_path: Path) -> None:
    """The whole way through TensorFlow's estimator, on random weights of the right shape."""
    separator = legacy("spleeter.separator").Separator("spleeter:2stems", multiprocess=False)
    tensorflow = legacy("tensorflow.compat.v1")
    with tensorflow.Graph().as_default(), tensorflow.Session() as session:
        tensorflow.set_random_seed(0)
        _ = separator._get_builder().outputs
        tensorflow.train.get_or_create_global_step()
        session.run(tensorflow.global_variables_initializer())
        tensorflow.train.Saver().save(session, str(tmp_path / "model"))
    (tmp_path / ".probe").write_text("OK")  # spleeter's own sign that nothing is to be fetched
    separator._params["model_dir"] = str(tmp_path)
    times_s = np.arange(2 * 44_100) / 44_100
    audio = np.stack([np.sin(2 * np.pi * f * times_s) / 4 for f in (220, 330)], axis=1)

    stems = separator.separate(audio.astype(np.float32))

    assert set(stems) == {"vocals", "accompaniment"}
    middle = slice(8_192, -8_192)
    # Masks sum to 1: whatever the weights, nothing is lost between the stems.
    np.testing.assert_allclose(sum(stems.values())[middle], audio[middle], atol=1e-3)
    assert all(np.abs(stem).max() > 1e-3 for stem in stems.values())


def test_tensorflow_and_torch_share_a_process() -> None:
    tensorflow = legacy("tensorflow")
    import torch

    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    torch_product = torch.from_numpy(numbers) @ torch.from_numpy(numbers.T)
    tensorflow_product = tensorflow.matmul(numbers, numbers.T)
    np.testing.assert_allclose(torch_product.numpy(), tensorflow_product.numpy())
