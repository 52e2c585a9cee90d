"""Command line: help, errors, signals and console output."""

import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from conftest import RunLoris
from imageio_ffmpeg import get_ffmpeg_version
from rich.console import Console
from typer.testing import CliRunner

from loris_cli import __version__
from loris_cli.commands import app as program
from loris_cli.commands import console, options
from loris_cli.commands.app import app
from loris_cli.errors import InputError, LorisError, WeightsError


def list_commands(group: typer.Typer, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of each command, those of groups included."""
    commands = [(*prefix, str(command.name)) for command in group.registered_commands]
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        words = (*prefix, str(inner.name))
        if inner.typer_instance.registered_callback is not None:
            commands.append(words)
        commands += list_commands(inner.typer_instance, words)
    return commands


COMMANDS = list_commands(app)
HEAVY_PACKAGES = {"torch", "cv2", "librosa", "numpy", "scipy", "av", "matplotlib", "moviepy"}
TYPER_PACKAGES = {
    "typer", "rich", "click", "shellingham", "markdown_it", "mdurl", "pygments",
    "annotated_doc", "typing_extensions", "colorama",
}  # fmt: skip


def run_python(code: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


RunCommand = Callable[[Callable[[], None]], int]


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Run a function as the command ``loris try`` and return the exit code."""
    trial = typer.Typer(pretty_exceptions_enable=False)
    trial.callback()(program.loris)
    monkeypatch.setattr(program, "app", trial)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv("LORIS_DEBUG", raising=False)

    def call(function: Callable[[], None]) -> int:
        trial.command("try")(function)
        monkeypatch.setattr(sys, "argv", ["loris", "try"])
        with pytest.raises(SystemExit) as caught:
            program.main()
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return call


def test_help_imports_no_heavy_package() -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from loris_cli.commands.app import app
for words in [["--help"], *([*name, "--help"] for name in {COMMANDS!r})]:
    assert CliRunner().invoke(app, words).exit_code == 0, words
print({HEAVY_PACKAGES!r} & set(sys.modules))
"""
    assert run_python(code) == "set()\n"


def test_main_help_imports_only_typer_and_its_dependencies() -> None:
    """Start-up time is that of the imports."""
    code = """
import sys
before = set(sys.modules)
import platformdirs  # of the data folder; small
from loris_cli.commands import app
sys.argv = ["loris", "--help"]
assert app.run_app() == 0
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(names - set(sys.stdlib_module_names) - {"loris_cli", "platformdirs"}))
"""
    *_, packages = run_python(code).splitlines()
    assert set(packages.split()) <= TYPER_PACKAGES


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*words, "--help"], terminal_width=96)
    assert result.exit_code == 0
    example = rf"^\W*loris {' '.join(words)} \S"
    assert re.search(example, result.output, re.MULTILINE), result.output


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "--split", "fe50", "list"),
        ("eval", "--quiet", "mos-results", "a.csv", "--key", "key.json"),
        ("train", "--set", "steps=1", "export", "run", "-o", "a.safetensors"),
    ],
    ids=" ".join,
)
def test_an_option_before_a_sub_command_is_refused(
    loris: RunLoris, words: tuple[str, ...]
) -> None:
    result = loris(*words)
    assert result.exit_code == 2
    assert words[1] in result.stderr


def test_an_option_is_in_one_panel_in_all_commands() -> None:
    panels: dict[str, set[str]] = {}
    for words in COMMANDS:
        command: Any = typer.main.get_command(app)
        for word in words:
            command = command.commands[word]
        for parameter in command.params:
            for name in parameter.opts:
                if name.startswith("--") and name != "--help":
                    panels.setdefault(name, set()).add(parameter.rich_help_panel)
    assert {name: titles for name, titles in panels.items() if len(titles) > 1} == {}


def test_a_call_without_arguments_prints_help_and_exits_with_2(loris: RunLoris) -> None:
    result = loris()
    assert result.exit_code == 2
    assert "Usage: loris" in result.stdout + result.stderr


def test_version_lists_loris_python_torch_and_ffmpeg(loris: RunLoris) -> None:
    result = loris("--version")
    assert result.exit_code == 0
    assert dict(line.split() for line in result.stdout.splitlines()) == {
        "loris": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "torch": version("torch"),
        "ffmpeg": get_ffmpeg_version(),
    }


@pytest.mark.parametrize("word", ["--no-such-option", "no-such-command"])
def test_a_usage_error_prints_one_error_line_and_a_hint(word: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "loris_cli", word], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert re.fullmatch(
        rf"loris: error: [^\n]*{word}[^\n]*\nhint: loris --help\n", process.stderr
    )


def test_an_error_prints_one_line_and_a_hint_and_sets_the_exit_code(
    run_command: RunCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise WeightsError("mini is damaged", hint="pip install --force-reinstall loris")

    assert run_command(fail) == WeightsError.exit_code == 3
    output = capsys.readouterr()
    assert output.err == (
        "loris: error: mini is damaged\nhint: pip install --force-reinstall loris\n"
    )
    assert output.out == ""


def test_markup_and_control_characters_in_file_names_are_escaped(
    run_command: RunCommand, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[red]a[/]\nloris: done\x1b[2J\udcff :smile: %03d " + "long " * 60

    def fail() -> None:
        raise InputError(f"{name} is not a video")

    assert run_command(fail) == 4
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "[red]a[/]\\nloris: done\\x1b[2J\\udcff :smile: %03d long" in errors


def test_loris_debug_prints_the_traceback(
    run_command: RunCommand,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise LorisError("no")

    assert run_command(fail) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("LORIS_DEBUG", "1")
    assert run_command(fail) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert 'raise LorisError("no")' in errors
    assert errors.endswith("loris: error: no\n")


def test_an_unexpected_exception_is_not_caught(run_command: RunCommand) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(fail)


def test_a_broken_pipe_other_than_stdout_is_not_caught(run_command: RunCommand) -> None:
    def fail() -> None:
        raise BrokenPipeError("an encoder ended")

    with pytest.raises(BrokenPipeError, match="an encoder ended"):
        run_command(fail)


# The command writes a line, waits for the end of its input, and cleans up.
WAITING_COMMAND = """
import sys
from loris_cli.commands import app as program

def wait():
    try:
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        print("x" * 100_000, flush=True)

program.app.command("wait")(wait)
program.main()
"""


def start_waiting_command() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING_COMMAND, "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=lambda sent: sent.name)
def test_a_signal_runs_the_cleanup_and_exits_with_130(sent: signal.Signals) -> None:
    with start_waiting_command() as process:
        process.send_signal(sent)
        assert process.stdout is not None
        assert process.stderr is not None
        # Not communicate(): it closes stdin, which would end the command without the signal.
        output, errors = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert output == b"x" * 100_000 + b"\n"
    assert re.fullmatch(rb"loris: error: [^\n]+\n", errors)


def test_a_closed_stdout_ends_the_program_without_an_error_line() -> None:
    with start_waiting_command() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.wait(timeout=20) == 1
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("name", "valid"),
    [("auto", True), ("cpu", True), ("cuda", True), ("cuda:1", True), ("mps", True),
     ("gpu", False), ("cuda:", False), ("cuda:-1", False), ("CPU\n", False), ("", False)],
)  # fmt: skip
def test_only_known_device_names_are_accepted(name: str, valid: bool) -> None:
    trial = typer.Typer()

    @trial.command()
    def show(device: options.Device = "auto") -> None:
        typer.echo(device)

    result = CliRunner().invoke(trial, ["--device", name])
    assert result.exit_code == (0 if valid else 2)
    assert result.stdout == (f"{name}\n" if valid else "")


def test_shared_options_parse_to_the_documented_parameters() -> None:
    trial = typer.Typer()
    values: dict[str, object] = {}

    @trial.command()
    def show(
        seed: options.Seed = 0,
        jobs: options.Jobs = 1,
        out: options.Out = None,
        overwrite: options.Overwrite = False,
        skip_existing: options.SkipExisting = False,
        as_json: options.JsonOutput = False,
        quiet: options.Quiet = False,
        verbose: options.Verbose = False,
        word: Annotated[str, typer.Argument()] = "",
    ) -> None:
        values.update(
            seed=seed, jobs=jobs, out=out, overwrite=overwrite, skip_existing=skip_existing,
            as_json=as_json, quiet=quiet, verbose=verbose, word=word,
        )  # fmt: skip

    words = "--seed 7 --jobs 2 -o a.mp4 --overwrite --skip-existing --json -q -v -- -x"
    assert CliRunner().invoke(trial, words.split()).exit_code == 0
    flags = dict.fromkeys(("overwrite", "skip_existing", "as_json", "quiet", "verbose"), True)
    assert values == {"seed": 7, "jobs": 2, "out": Path("a.mp4"), **flags, "word": "-x"}


def test_results_go_to_stdout_and_messages_to_stderr(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    reporter = console.ConsoleReporter(verbose=True)
    reporter.print_result("b\udcff\n.mp4")
    reporter.info("[a] note")
    reporter.debug("a detail")
    reporter.warn("beware\x07")
    output = capfdbinary.readouterr()
    assert output.out == b"b\xff\n.mp4\n"  # the bytes of the file name
    assert output.err == b"[a] note\na detail\nloris: warning: beware\\x07\n"


def test_quiet_prints_only_results_and_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = console.ConsoleReporter(quiet=True, verbose=True)
    with reporter.stage("pose", total=2) as advance:
        advance()
        advance(1)
        reporter.info("no")
        reporter.debug("no")
    reporter.warn("yes")
    reporter.print_result("yes")
    output = capfd.readouterr()
    assert output.err == "loris: warning: yes\n"
    assert output.out == "yes\n"


def test_progress_is_printed_every_10_s_if_stderr_is_not_a_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *range(1, 31), 31.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with console.ConsoleReporter().stage("pose", total=30) as advance:
        for _ in range(30):
            advance()
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("pose: ") for line in lines)
    assert [re.findall(r"[\d.]+", line) for line in lines] == [
        ["33", "10"], ["67", "20"], ["100", "30"], ["31.5"]
    ]  # fmt: skip


def test_a_failed_stage_prints_no_completion(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError), console.ConsoleReporter().stage("pose"):
        raise InputError("no")
    assert capfd.readouterr().err == ""


def make_terminal_reporter() -> tuple[console.ConsoleReporter, io.StringIO]:
    screen = io.StringIO()
    reporter = console.ConsoleReporter()
    reporter._console = Console(file=screen, force_terminal=True, width=80)
    return reporter, screen


def test_overlapping_progress_bars_on_a_terminal_end_at_100_percent() -> None:
    reporter, screen = make_terminal_reporter()
    with (
        reporter.stage("pose [x]", total=10) as advance_pose,
        reporter.stage("music") as advance_music,
    ):
        advance_pose(4)
        advance_music(2)
    for name in ("pose [x]", "music"):
        *_, last = [line for line in screen.getvalue().splitlines() if name in line]
        assert "100%" in last


def test_progress_bars_start_again_after_all_stages_ended() -> None:
    reporter, screen = make_terminal_reporter()
    for name in ("first", "second"):
        with reporter.stage(name, total=1) as advance:
            advance()
    assert "second" in screen.getvalue()
    assert reporter._progress is None


def test_the_cursor_is_restored_when_a_stage_fails() -> None:
    reporter, screen = make_terminal_reporter()
    with pytest.raises(InputError), reporter.stage("pose", total=2):
        raise InputError("no")
    assert screen.getvalue().endswith("\x1b[?25h")  # escape sequence that shows the cursor
