"""Paths of the files that are read and written, from the names that a user gives.

names, folders, @lists -> videos -> output paths
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from loris_cli.errors import InputError, OutputError, UsageError
from loris_cli.system.atomic_files import FOLDER_HINT, PARENT_HINT

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .wmv .flv .3gp".split()
)
"""Of the files that are read from a folder; a file that is named is read whatever its name."""

MAX_LIST_BYTES = 64 << 20
INPUT_HINT = "name videos, folders or @list.txt"


def expand_inputs(names: Sequence[str]) -> list[Path]:
    """Return the videos that names stand for, each once, in their order.

    Args:
        names: files; folders, looked through with all below them; ``@list.txt``, a file of
            one name a line (UTF-8, blank lines and lines that begin with ``#`` are
            skipped, relative names count from the list's folder).

    Raises:
        InputError: a folder holds no video, or a list cannot be read.
        UsageError: nothing is named.
    """
    videos: dict[str, Path] = {}
    for path in _iter_inputs(names):
        videos.setdefault(os.path.realpath(path), path)
    if not videos:
        raise UsageError("no input is named", hint=INPUT_HINT)
    return list(videos.values())


def find_list_files(names: Sequence[str]) -> list[Path]:
    """Return the list files among names: they are read too, so no result may replace one."""
    return [Path(name[1:]) for name in names if _is_list_argument(name)]


def _is_list_argument(name: str) -> bool:
    return name.startswith("@") and not os.path.lexists(name)


def _iter_inputs(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        if not name:  # pathlib would take it for the current folder
            raise UsageError("an input has no name", hint=INPUT_HINT)
        if _is_list_argument(name):
            yield from _read_list_file(Path(name[1:]))
        elif os.path.isdir(name):
            yield from _find_videos(Path(name))
        else:
            yield Path(name)


def _read_list_file(path: Path) -> Iterator[Path]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LIST_BYTES + 1)
        text = content[:MAX_LIST_BYTES].decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("no text has a NUL in it")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the list {path}", hint="a list is UTF-8 text") from error
    if len(content) > MAX_LIST_BYTES:
        raise InputError(f"the list {path} is too long", hint="split it")
    # Not splitlines(): it splits at characters that a name may hold.
    for line in text.replace("\r\n", "\n").split("\n"):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            target = path.parent / (line if os.path.exists(path.parent / line) else entry)
            yield from _find_videos(target) if os.path.isdir(target) else iter([target])


def _find_videos(folder: Path) -> Iterator[Path]:
    """Find the videos below a folder, sorted; links to folders are not followed: no loop.

    Results of loris are left out, or a second run would make soundtracks of them.
    """
    videos = sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(name).suffix.lower() in VIDEO_SUFFIXES
        and not name.startswith(".")
        and ".loris" not in Path(name).suffixes[:-1]
    )
    if not videos:
        hint = "looked for " + " ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"no video in the folder {folder}", hint=hint)
    yield from videos


def is_output_folder(output: Path) -> bool:
    """Whether ``-o`` means a folder: it is one, or nothing is there and it has no suffix."""
    # Not Path.is_dir: it fails on names that are too long.
    return os.path.isdir(output) or (not output.suffix and not os.path.lexists(output))


@contextmanager
def output_folder(output: Path | None) -> Iterator[None]:
    """Make the folder that ``-o`` names; remove it in the end if it is new and empty.

    The folder above is never made: a mistyped name should not lead results astray.

    Raises:
        UsageError: the folder above does not exist.
        OutputError: the folder may not be made.
    """
    if output is None or not is_output_folder(output) or output.is_dir():
        yield
        return
    try:
        output.mkdir(exist_ok=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"no folder {output.parent} for {output}", hint=PARENT_HINT) from error
    except OSError as error:
        raise OutputError(
            f"cannot make {output}: {error.strerror}", hint=FOLDER_HINT
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # results are in it
            output.rmdir()


def resolve_output_paths(
    videos: Sequence[Path],
    output: Path | None,
    *,
    default_suffix: str,
    n_takes: int = 1,
    allowed_suffixes: Collection[str] = (),
) -> list[list[Path]]:
    """Return the paths of the results of each video.

    Args:
        videos: inputs.
        output: None, a file for one input, or a folder (`is_output_folder`) for any number.
        default_suffix: of the name of a result where ``output`` does not say, with what stands
            before the dot, e.g. ``".loris.mp4"``.
        n_takes: results for each; more than one are numbered from 1.
        allowed_suffixes: of a file that ``output`` names; empty is any.

    Returns:
        for each video as many paths as takes.

    Raises:
        UsageError: two videos of one stem would share a result, many are to go into a file,
            or the file's name ends in a suffix that stands for no format.
    """
    is_folder = output is not None and is_output_folder(output)
    if output is not None and not is_folder:
        if len(videos) > 1:
            raise UsageError(f"several inputs, one output {output}", hint="-o takes a folder")
        if allowed_suffixes:
            check_suffix(output, allowed_suffixes)
    results: list[list[Path]] = []
    sources: dict[str, Path] = {}
    for video in videos:
        name = video.stem + default_suffix
        if output is None:
            path = video.with_name(name)
        else:
            path = output / name if is_folder else output
        takes = range(1, n_takes + 1)
        paths = [path] if n_takes == 1 else [_numbered_path(path, take) for take in takes]
        for path in paths:
            target = os.path.realpath(path)
            if target in sources:
                raise UsageError(
                    f"{sources[target]} and {video} would both be {path.name}",
                    hint="rename one of them, or make them one after the other",
                )
            sources[target] = video
        results.append(paths)
    return results


def check_suffix(path: Path, suffixes: Collection[str]) -> None:
    """Refuse a name that ends in no suffix of a format that is written.

    Raises:
        UsageError: it ends in none of the suffixes.
    """
    if path.suffix.lower() not in suffixes:
        ending = f"no format {path.suffix}" if path.suffix else "no suffix"
        raise UsageError(f"{path}: {ending}", hint="end the name in " + ", ".join(suffixes))


def _numbered_path(path: Path, take: int) -> Path:
    """Return the path of a take: ``a.loris.mp4`` gives ``a-1.loris.mp4``."""
    bare = path.name.removesuffix(path.suffix).removesuffix(".loris")
    return path.with_name(f"{bare}-{take}{path.name[len(bare) :]}")


def check_single_input(option: str, n_inputs: int) -> None:
    """Refuse an option that takes one file where there are several inputs.

    Raises:
        UsageError: there is more than one input.
    """
    if n_inputs > 1:
        raise UsageError(f"{option} goes with one input, not {n_inputs}", hint="leave it out")
