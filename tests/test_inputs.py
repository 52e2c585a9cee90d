"""From names to files: folders, lists, and one place for each result."""

import os
from pathlib import Path

import pytest

from loris_cli.errors import InputError, OutputError, UsageError
from loris_cli.system.input_paths import (
    expand_inputs,
    find_list_files,
    is_output_folder,
    output_folder,
    resolve_output_paths,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MOV", "deep/c.webm", "notes.txt", ".hidden.mp4", "a.loris.mp4"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "videos"


def below(folder: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_its_videos_but_not_for_our_results(folder: Path) -> None:
    assert below(folder, expand_inputs([str(folder)])) == ["a.MOV", "b.mp4", "deep/c.webm"]


def test_a_video_named_twice_is_one(folder: Path) -> None:
    (folder / "link.mp4").symlink_to("b.mp4")
    names = [folder / "b.mp4", folder / "deep/../b.mp4", folder / "link.mp4"]
    assert expand_inputs([str(name) for name in names]) == [folder / "b.mp4"]


def test_a_file_that_is_named_is_tried_whatever_its_name() -> None:
    assert expand_inputs(["x.strange", "-x.mp4"]) == [Path("x.strange"), Path("-x.mp4")]


def test_folders_that_link_in_a_ring_come_to_an_end(folder: Path) -> None:
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    assert len(expand_inputs([str(folder)])) == 3


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_is_read_however_it_was_saved(folder: Path, end: str, mark: str) -> None:
    lines = [
        "# mine",
        "",
        "b.mp4",
        "  deep/c.webm ",
        "\u00e9t\u00e9 \u2028 1.mp4",
        "#",
        str(folder / "a.MOV"),
    ]
    (folder / "list.txt").write_bytes((mark + end.join(lines)).encode())

    found = expand_inputs([f"@{folder / 'list.txt'}"])

    assert below(folder, found) == [
        "b.mp4",
        "deep/c.webm",
        "\u00e9t\u00e9 \u2028 1.mp4",
        "a.MOV",
    ]


def test_a_list_may_name_folders_and_names_that_end_in_a_space(folder: Path) -> None:
    (folder / "b.mp4 ").touch()
    (folder / "list").write_text("deep\nb.mp4 \n")
    assert below(folder, expand_inputs([f"@{folder / 'list'}"])) == ["deep/c.webm", "b.mp4 "]


def test_a_file_whose_name_begins_with_an_at_sign_is_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("@b.mp4").touch()
    assert expand_inputs(["@b.mp4"]) == [Path("@b.mp4")]
    assert find_list_files(["@b.mp4", "@list.txt", "b.mp4"]) == [Path("list.txt")]


@pytest.mark.parametrize("content", [b"\xff\xfea\0", b"\x80\n", b"a\0b.mp4\n"])
def test_a_list_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the list .*list"):
        expand_inputs([f"@{tmp_path / 'list'}"])


@pytest.mark.parametrize("names", [[], [""], ["a.mp4", ""]])
def test_no_name_is_a_usage_error(names: list[str]) -> None:
    with pytest.raises(UsageError):
        expand_inputs(names)


def test_an_empty_list_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# nothing yet\n\n")
    with pytest.raises(UsageError, match="no input"):
        expand_inputs([f"@{tmp_path / 'list'}"])


def named(*videos: str, out: str | None = None, takes: int = 1) -> list[str]:
    paths = [Path(video) for video in videos]
    output = None if out is None else Path(out)
    results = resolve_output_paths(
        paths,
        output,
        default_suffix=".loris.mp4",
        n_takes=takes,
        allowed_suffixes=[".mp4", ".wav"],
    )
    return [str(name) for names in results for name in names]


def test_without_o_a_result_is_beside_its_video() -> None:
    assert named("x/a.mkv", "b.mp4") == ["x/a.loris.mp4", "b.loris.mp4"]


def test_o_is_a_file_if_it_has_a_suffix_and_a_folder_if_not(tmp_path: Path) -> None:
    (tmp_path / "old.v2").mkdir()
    (tmp_path / "file").touch()
    assert named("a.mp4", out="new.WAV") == ["new.WAV"]
    assert named("a.mp4", out="new") == ["new/a.loris.mp4"]
    assert named("a.mp4", "b.mp4", out=f"{tmp_path}/old.v2")[1].endswith("old.v2/b.loris.mp4")
    assert not is_output_folder(tmp_path / "file")


@pytest.mark.parametrize("out", ["a.xyz", "a.loris"])
def test_a_suffix_that_stands_for_nothing_is_refused(out: str) -> None:
    with pytest.raises(UsageError, match="no format"):
        named("a.mp4", out=out)


def test_many_results_do_not_go_into_one_file() -> None:
    with pytest.raises(UsageError, match="several inputs, one output"):
        named("a.mp4", "b.mp4", out="c.mp4")


def test_two_videos_of_one_stem_would_share_a_result() -> None:
    assert named("x/a.mp4", "y/a.mp4") == ["x/a.loris.mp4", "y/a.loris.mp4"]
    with pytest.raises(UsageError, match="would both be"):
        named("x/a.mp4", "y/a.mp4", out="new")
    with pytest.raises(UsageError, match="would both be"):
        named("a.mp4", "a.mov")


@pytest.mark.parametrize(
    ("out", "first"),
    [(None, "a-1.loris.mp4"), ("b.wav", "b-1.wav"), ("b.mp4.mp4", "b.mp4-1.mp4"),
     ("b.loris.mp4", "b-1.loris.mp4"), ("new", "new/a-1.loris.mp4")],
)  # fmt: skip
def test_takes_are_numbered_before_the_suffix(out: str | None, first: str) -> None:
    assert named("a.mp4", out=out, takes=2)[0] == first


def test_take_one_of_a_video_is_not_another_videos_result() -> None:
    with pytest.raises(UsageError, match="would both be"):
        resolve_output_paths(
            [Path("a.mp4"), Path("a.mov")], None, default_suffix=".loris.mp4", n_takes=2
        )


def test_a_new_folder_is_made_and_goes_if_nothing_came_into_it(tmp_path: Path) -> None:
    new = tmp_path / "new"
    with output_folder(new):
        assert new.is_dir()
    assert not new.exists()
    with output_folder(new):
        (new / "a.wav").touch()
    assert os.listdir(new) == ["a.wav"]
    with output_folder(new):
        pass
    assert new.is_dir()


def test_an_empty_folder_of_the_users_stays(tmp_path: Path) -> None:
    with output_folder(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_the_folder_above_is_never_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none/new", "file/new"):
        with pytest.raises(UsageError, match="no folder"), output_folder(tmp_path / name):
            pass
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_made_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be made"), output_folder(tmp_path / "new"):
        pass
