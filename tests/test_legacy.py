"""Legacy packages run beside the core packages in the environment of `make legacy`."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import import_optional

# These packages are not maintained any more and raise deprecation warnings.
pytestmark = [
    pytest.mark.legacy,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning"),
]


def import_or_skip(module: str) -> Any:
    """Import a module by `import_optional`; skip the test if it is not installed."""
    try:
        return import_optional(module, extra="", purpose="run this test")
    except MissingDependencyError as missing:
        return pytest.skip(f"{missing}: `make legacy` installs it")


@pytest.fixture
def restored_log_handlers() -> Iterator[None]:
    """Remove the log handlers that mmengine adds for each model."""
    before = logging.root.manager.loggerDict.copy()
    yield
    for name in set(logging.root.manager.loggerDict) - set(before):
        logging.getLogger(name).handlers.clear()


def test_mmpose_keypoints_lie_in_the_box_and_are_reproducible(
    restored_log_handlers: None,
) -> None:
    apis = import_or_skip("mmpose.apis")
    mmpose = import_or_skip("mmpose")
    config = import_or_skip("mmengine.config").Config.fromfile(
        Path(mmpose.__file__).parent
        / ".mim/configs/body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py"
    )
    config.model.backbone.init_cfg = None  # a download
    import_or_skip("torch").manual_seed(0)
    model = apis.init_model(config, None, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    box = np.array([[40.0, 20.0, 200.0, 220.0]])

    (first,) = apis.inference_topdown(model, image, box)
    (second,) = apis.inference_topdown(model, image, box)

    keypoints = first.pred_instances.keypoints
    assert keypoints.shape == (1, 17, 2)
    # The weights are random, but a top-down network places keypoints inside the box of
    # 160 by 200 px, enlarged to the aspect ratio 3 by 4 of the network and by a quarter.
    centre, half_size = np.array([120.0, 120.0]), 1.25 * np.array([160, 160 * 4 / 3]) / 2
    assert (np.abs(keypoints - centre) <= half_size + 1).all()
    assert len(np.unique(keypoints[0], axis=0)) > 1
    np.testing.assert_array_equal(keypoints, second.pred_instances.keypoints)


def test_stub_modules_are_removed_after_the_import_of_mmpose() -> None:
    import_or_skip("mmpose.apis")
    assert "mmdet" not in sys.modules
    assert "mmcv._ext" not in sys.modules


def test_a_missing_operator_of_mmcv_lite_raises_an_error() -> None:
    import_or_skip("mmpose.apis")
    operators = import_or_skip("mmcv.ops")
    boxes = np.array([[0, 0, 1, 1]], dtype=np.float32)
    with pytest.raises(NotImplementedError, match=r"mmcv\._ext\.nms"):
        operators.nms(boxes, np.ones(1, dtype=np.float32), 0.5)


@pytest.mark.parametrize("method", ["superflux", "RNN"])
def test_madmom_detects_clicks_at_their_times(method: str) -> None:
    onsets = import_or_skip("madmom.features.onsets")
    signal = import_or_skip("madmom.audio.signal").Signal
    clicks_s = [0.5, 1.25, 2.0, 3.1]
    rng = np.random.default_rng(0)
    audio = np.zeros(4 * 44_100, dtype=np.float32)
    for click_s in clicks_s:
        start = round(click_s * 44_100)
        audio[start : start + 200] = rng.normal(size=200) / 2

    # At rates other than 44.1 kHz madmom needs an ffmpeg program.
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


def test_pytorchvideo_features_have_2048_channels() -> None:
    hub = import_or_skip("pytorchvideo.models.hub")
    import torch

    torch.manual_seed(0)
    model = hub.i3d_r50(pretrained=False).eval()
    clip = torch.rand(1, 3, 8, 224, 224)

    with torch.no_grad():
        features = clip
        for block in model.blocks[:-1]:  # without the classifier
            features = block(features)
        classes = model.blocks[-1](features)

    assert features.shape == (1, 2048, 4, 7, 7)  # strides of 2 in time and 32 in space
    assert features.std() > 0
    assert classes.shape == (1, 400)


def test_spleeter_stems_sum_to_the_mix(tmp_path: Path) -> None:
    """Run the TensorFlow estimator with random weights."""
    separator = import_or_skip("spleeter.separator").Separator(
        "spleeter:2stems", multiprocess=False
    )
    tensorflow = import_or_skip("tensorflow.compat.v1")
    with tensorflow.Graph().as_default(), tensorflow.Session() as session:
        tensorflow.set_random_seed(0)
        _ = separator._get_builder().outputs
        tensorflow.train.get_or_create_global_step()
        session.run(tensorflow.global_variables_initializer())
        tensorflow.train.Saver().save(session, str(tmp_path / "model"))
    (tmp_path / ".probe").write_text("OK")  # spleeter downloads nothing if this file exists
    separator._params["model_dir"] = str(tmp_path)
    times_s = np.arange(2 * 44_100) / 44_100
    audio = np.stack([np.sin(2 * np.pi * f * times_s) / 4 for f in (220, 330)], axis=1)

    stems = separator.separate(audio.astype(np.float32))

    assert set(stems) == {"vocals", "accompaniment"}
    middle = slice(8_192, -8_192)
    # The masks sum to 1 for all weights.
    np.testing.assert_allclose(sum(stems.values())[middle], audio[middle], atol=1e-3)
    assert all(np.abs(stem).max() > 1e-3 for stem in stems.values())


def test_tensorflow_and_torch_share_a_process() -> None:
    tensorflow = import_or_skip("tensorflow")
    import torch

    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    torch_product = torch.from_numpy(numbers) @ torch.from_numpy(numbers.T)
    tensorflow_product = tensorflow.matmul(numbers, numbers.T)
    np.testing.assert_allclose(torch_product.numpy(), tensorflow_product.numpy())
