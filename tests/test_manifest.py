"""Manifest of a data set: round trip and rejected rows."""

import json
from pathlib import Path

import pytest
from builders import make_clip

from loris_cli.dataset.manifest import SCHEMA, read_manifest, write_manifest
from loris_cli.errors import InputError

CLIP = make_clip("a")


def encode_row(**fields: object) -> str:
    """Row of ``CLIP`` with other values."""
    return json.dumps({**CLIP.__dict__, **fields})


def test_manifest_round_trip_preserves_clips(tmp_path: Path) -> None:
    write_manifest(tmp_path, [CLIP])

    assert read_manifest(tmp_path) == [CLIP]


def test_clip_has_one_visual_feature_file_per_encoder(tmp_path: Path) -> None:
    clip = make_clip(
        "a", visual={"i3d-kinetics": "visual/a.npz", "i3d-charades": "visual/b.npz"}
    )
    write_manifest(tmp_path, [clip])
    assert read_manifest(tmp_path) == [clip]
    assert clip.file_paths == ("audio/a.flac", "rhythm/a.npz", "visual/a.npz", "visual/b.npz")


@pytest.mark.parametrize(
    "row",
    [
        pytest.param("not json", id="not JSON"),
        pytest.param("[]", id="list"),
        pytest.param('{"schema": 3}', id="newer schema"),
        pytest.param('{"schema": 2, "id": "a"}', id="missing fields"),
        pytest.param(encode_row(schema=1), id="older schema"),
        pytest.param(encode_row(synthetic="no"), id="string for bool"),
        pytest.param(encode_row(duration_s="long"), id="string for number"),
        pytest.param(encode_row(audio="../../secret.flac"), id="path outside the data set"),
        pytest.param(encode_row(rhythm="/etc/passwd"), id="absolute path"),
        pytest.param(encode_row(visual={"i3d": "../a.npz"}), id="visual path outside"),
        pytest.param(encode_row(visual={"i3d": 1}), id="number for path"),
        pytest.param(encode_row(visual={"unknown": "a.npz"}), id="unknown encoder"),
        pytest.param(encode_row(visual=["a.npz"]), id="list for visual"),
    ],
)
def test_invalid_row_is_rejected_with_its_line_number(tmp_path: Path, row: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(encode_row() + "\n" + row + "\n")

    with pytest.raises(InputError, match=r"manifest\.jsonl:2"):
        read_manifest(tmp_path)


def test_folder_without_a_manifest_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.jsonl"):
        read_manifest(tmp_path)


def test_duplicate_clip_id_is_rejected(tmp_path: Path) -> None:
    clip = make_clip("clip-7")
    write_manifest(tmp_path, [make_clip("clip-6"), clip, clip])

    with pytest.raises(InputError, match="clip-7"):
        read_manifest(tmp_path)


def test_path_of_a_hashed_file_outside_the_data_set_is_rejected(tmp_path: Path) -> None:
    row = encode_row(schema=SCHEMA, files={"../secret": {"bytes": 1}})
    (tmp_path / "manifest.jsonl").write_text(row + "\n")

    with pytest.raises(InputError, match=r"\.\./secret"):
        read_manifest(tmp_path)
