"""Atomic writes: an output file is complete or absent, for any name and any failure."""

import errno
import os
import re
from pathlib import Path

import pytest

from loris_cli.errors import LorisError, OutputError, UsageError
from loris_cli.system.atomic_files import (
    DISK_HINT,
    atomic_write,
    check_output_paths,
    printable_path,
    temporary_folder,
)

SPECIAL_NAMES = [
    "two words.mp4",
    "-dash.mp4",
    "%03d.mp4",
    "12:30.mp4",
    "line\nend.mp4",
    "фигурное катание.mp4",
    "[bold]dance[red].mp4",
    "x" * 251 + ".mp4",
    "ж" * 125 + ".mp4",
    ".hidden",
    "no suffix",
]


def list_names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def check_atomic_write_refuses(path: Path, match: str, *, overwrite: bool = True) -> None:
    """Check that `atomic_write` raises an `OutputError` before it yields."""
    with (
        pytest.raises(OutputError, match=match),
        atomic_write(path, overwrite=overwrite),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("name", SPECIAL_NAMES)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_of_any_name_is_written_through_a_hidden_file(
    tmp_path: Path, name: str, overwrite: bool
) -> None:
    out = tmp_path / name
    with atomic_write(out, overwrite=overwrite) as temporary_path:
        assert temporary_path.parent == tmp_path
        assert temporary_path.suffix == (out.suffix or ".part")
        assert temporary_path.name.startswith(".")
        assert not out.exists()
        temporary_path.write_text("new")
    assert out.read_text() == "new"
    assert list_names(tmp_path) == [name]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_a_failure_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    out = tmp_path / "a.mp4"
    out.write_text("old")

    def write_half() -> None:
        with atomic_write(out, overwrite=True) as temporary_path:
            temporary_path.write_text("half")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert out.read_text() == "old"
    assert list_names(tmp_path) == ["a.mp4"]


def test_an_existing_file_is_not_replaced_without_overwrite(tmp_path: Path) -> None:
    out = tmp_path / "a.mp4"
    out.write_text("old")
    check_atomic_write_refuses(out, r"a\.mp4", overwrite=False)
    assert out.read_text() == "old"


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_during_the_write_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    if not hard_links:
        monkeypatch.setattr(os, "link", refuse_link)
    out = tmp_path / "a.mp4"

    def write_concurrently() -> None:
        with atomic_write(out, overwrite=False) as temporary_path:
            temporary_path.write_text("of this process")
            out.write_text("of another process")

    with pytest.raises(OutputError) as caught:
        write_concurrently()
    assert "--overwrite" in caught.value.hint
    assert out.read_text() == "of another process"
    assert list_names(tmp_path) == ["a.mp4"]


def refuse_link(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_new_file_is_written_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_link)
    with atomic_write(tmp_path / "a.mp4", overwrite=False) as temporary_path:
        temporary_path.write_text("new")
    assert (tmp_path / "a.mp4").read_text() == "new"
    assert list_names(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT], ids=errno.errorcode.get
)
def test_a_full_disk_is_an_output_error_with_a_hint(tmp_path: Path, number: int) -> None:
    with (
        pytest.raises(OutputError, match=r"a\.mp4") as caught,
        atomic_write(tmp_path / "a.mp4", overwrite=False),
    ):
        raise OSError(number, os.strerror(number))
    assert caught.value.hint == DISK_HINT
    assert list_names(tmp_path) == []


def test_a_full_disk_on_fsync_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(OutputError, match=r"a\.mp4") as caught,
        atomic_write(tmp_path / "a.mp4", overwrite=False) as temporary_path,
    ):
        temporary_path.write_text("new")
    assert caught.value.hint == DISK_HINT
    assert list_names(tmp_path) == []


def test_read_errors_are_not_reported_as_output_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.mp4", overwrite=True):
        (tmp_path / "missing").read_text()


def test_a_missing_permission_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_open(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse_open)  # chmod does not restrict root
        check_atomic_write_refuses(tmp_path / "a.mp4", "permission")


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    check_atomic_write_refuses(tmp_path / "missing" / "a.mp4", "missing")
    assert list_names(tmp_path) == []


def test_a_device_file_is_not_replaced() -> None:
    check_atomic_write_refuses(Path(os.devnull), os.devnull)


def test_a_symbolic_link_is_followed_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "a.mp4").symlink_to(tmp_path / "far" / "b.mp4")
    with atomic_write(tmp_path / "a.mp4", overwrite=True) as temporary_path:
        temporary_path.write_text("new")
    assert (tmp_path / "a.mp4").is_symlink()
    assert (tmp_path / "far" / "b.mp4").read_text() == "new"


def test_new_files_have_default_permissions_and_old_files_keep_theirs(
    tmp_path: Path,
) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_write(tmp_path / "a.mp4", overwrite=True):
        pass
    assert (tmp_path / "a.mp4").stat().st_mode == plain.stat().st_mode
    (tmp_path / "a.mp4").chmod(0o600)
    with atomic_write(tmp_path / "a.mp4", overwrite=True):
        pass
    assert (tmp_path / "a.mp4").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("link", ["same path", "symbolic link", "hard link", "dot-dot path"])
def test_an_output_that_is_an_input_is_refused(
    tmp_path: Path, link: str, overwrite: bool
) -> None:
    source = tmp_path / "a.mp4"
    source.touch()
    out = tmp_path / "b.mp4"
    if link == "symbolic link":
        out.symlink_to(source)
    elif link == "hard link":
        out.hardlink_to(source)
    elif link == "dot-dot path":
        (tmp_path / "sub").mkdir()
        out = tmp_path / "sub" / ".." / "a.mp4"
    else:
        out = source
    with pytest.raises(UsageError, match=r"\.mp4 .*input"):
        check_output_paths([out], [source], overwrite=overwrite)


def test_two_outputs_with_one_path_are_refused(tmp_path: Path) -> None:
    check_output_paths([tmp_path / "a", tmp_path / "b"], [], overwrite=True)
    with pytest.raises(UsageError, match=re.escape(str(tmp_path / "a"))):
        check_output_paths([tmp_path / "a", tmp_path / "." / "a"], [], overwrite=True)


def test_an_existing_output_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    check_output_paths([tmp_path / "a.mp4"], [], overwrite=True)
    with pytest.raises(UsageError, match=r"a\.mp4") as caught:
        check_output_paths([tmp_path / "a.mp4"], [], overwrite=False)
    assert "--overwrite" in caught.value.hint


def test_impossible_output_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file"):
        check_output_paths([tmp_path / "file" / "a.mp4"], [], overwrite=True)
    with pytest.raises(UsageError, match="missing"):
        check_output_paths([tmp_path / "missing" / "a.mp4"], [], overwrite=True)
    with pytest.raises(UsageError, match=re.escape(str(tmp_path))):
        check_output_paths([tmp_path], [], overwrite=True)


@pytest.mark.parametrize(
    "name", [*SPECIAL_NAMES, os.fsdecode(b"\xff\xfe.mp4"), "tab\tesc\x1b[31m"]
)
def test_messages_with_special_names_are_one_printable_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(LorisError) as caught:
        check_output_paths([tmp_path / name / "a.mp4"], [], overwrite=False)
    assert printable_path(name) in str(caught.value)
    text = str(caught.value) + caught.value.hint
    assert text.isprintable()
    assert text.encode()
    assert printable_path("plain [b] é.mp4") == "plain [b] é.mp4"


def test_a_temporary_folder_is_removed_with_its_files(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "a").mkdir()
        (folder / "a" / "b.wav").write_text("")
        assert folder.parent == tmp_path
        assert list_names(tmp_path) == [folder.name]
    assert list_names(tmp_path) == []


def test_an_interrupt_after_mkdir_leaves_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def interrupt_after_mkdir(path: Path, mode: int) -> None:
        mkdir(path, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "mkdir", interrupt_after_mkdir)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path):
        pass
    assert list_names(tmp_path) == []


def test_a_temporary_folder_in_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"), temporary_folder(tmp_path / "missing"):
        pytest.fail("the block must not run")
