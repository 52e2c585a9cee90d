"""The program as a user meets it: help, errors, interruptions, and what it says."""

import io
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from loris_cli.commands import app as program
from loris_cli.commands import console, options
from loris_cli.commands.app import app
from loris_cli.errors import InputError, LorisError, WeightsError


def list_commands(group: typer.Typer, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Words of every command, of the groups' too."""
    found = [(*prefix, str(command.name)) for command in group.registered_commands]
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        words = (*prefix, str(inner.name))
        if inner.typer_instance.registered_callback is not None:
            found.append(words)
        found += list_commands(inner.typer_instance, words)
    return found


COMMANDS = list_commands(app)
HEAVY = {"torch", "cv2", "librosa", "numpy", "scipy", "av", "matplotlib", "moviepy"}


def loris(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loris_cli", *args],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


Run = Callable[[Callable[[], None]], int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a body as if it were the command ``loris try`` and give the exit code."""
    trial = typer.Typer(pretty_exceptions_enable=False)
    trial.callback()(program.loris)
    monkeypatch.setattr(program, "app", trial)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv("LORIS_DEBUG", raising=False)

    def call(body: Callable[[], None]) -> int:
        trial.command("try")(body)
        monkeypatch.setattr(sys, "argv", ["loris", "try"])
        with pytest.raises(SystemExit) as left:
            program.main()
        assert isinstance(left.value.code, int)
        return left.value.code

    return call


def test_help_leaves_the_heavy_packages_alone() -> None:
    code = f"""
import sys
from typer.testing import CliRunner
from loris_cli.commands.app import app
for words in [["--help"], *([*name, "--help"] for name in {COMMANDS!r})]:
    assert CliRunner().invoke(app, words).exit_code == 0, words
print({HEAVY!r} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "set()\n", done.stderr


def test_help_takes_less_than_half_a_second() -> None:
    def cost_s() -> float:  # of the processor: others may be at work on this machine
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert loris("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cost_s() for _ in range(4)) < 0.5


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*words, "--help"], terminal_width=96)
    assert shown.exit_code == 0
    example = rf"^\W*loris {' '.join(words)} \S"
    assert re.search(example, shown.output, re.MULTILINE), shown.output


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
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["loris", *words])
    assert program.run_app() == 2
    assert words[1] in capsys.readouterr().err


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
    assert {name: found for name, found in panels.items() if len(found) > 1} == {}


def test_nothing_asked_shows_the_help_and_is_a_usage_error() -> None:
    done = loris()
    assert done.returncode == 2
    assert "Usage: loris" in done.stderr + done.stdout


def test_version_tells_what_the_sound_depends_on() -> None:
    done = loris("--version")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "loris",
        "python",
        "torch",
        "ffmpeg",
    ]


@pytest.mark.parametrize("words", [["--no-such-option"], ["no-such-command"]])
def test_a_usage_error_is_told_like_any_other(words: list[str]) -> None:
    done = loris(*words)
    assert done.returncode == 2
    assert re.fullmatch(r"loris: error: [^\n]*no-such[^\n]*\nhint: loris --help\n", done.stderr)


def test_an_error_is_one_line_and_a_hint_and_carries_its_exit_code(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        raise WeightsError("mini is damaged", hint="pip install --force-reinstall loris")

    assert run(body) == 3
    shown = capsys.readouterr()
    assert shown.err == (
        "loris: error: mini is damaged\nhint: pip install --force-reinstall loris\n"
    )
    assert shown.out == ""


def test_a_file_name_can_fake_neither_a_line_nor_a_style(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[red]a[/]\nloris: all is well\x1b[2J\udcff :smile: %03d " + "long " * 60

    def body() -> None:
        raise InputError(f"{name} is no video")

    assert run(body) == 4
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "[red]a[/]\\nloris: all is well\\x1b[2J\\udcff :smile: %03d long" in shown


def test_debug_shows_where_an_error_comes_from(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def body() -> None:
        monkeypatch.setenv("LORIS_DEBUG", "1")
        raise LorisError("no")

    assert run(body) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_ours_is_not_hushed_up(run: Run) -> None:
    def body() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(body)


def test_a_pipe_that_breaks_inside_is_a_bug_and_not_quiet(run: Run) -> None:
    def body() -> None:
        raise BrokenPipeError("an encoder died")

    with pytest.raises(BrokenPipeError):
        run(body)


# A command that writes a line, waits, and cleans up whatever ends it.
SLOW = """
import sys, time
from loris_cli.commands import app as program

def slow():
    try:
        print("ready", flush=True)
        time.sleep(30)
    finally:
        print("cleaned", flush=True)

program.app.command("slow")(slow)
program.main()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cleans_up_and_exits_130(sent: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(sent)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == b"cleaned\n"
    assert err == b"loris: error: interrupted\n"


def test_a_reader_that_leaves_ends_the_program_quietly() -> None:
    code = SLOW.replace("time.sleep(30)", "time.sleep(0.5); print('x' * 100_000)")
    with subprocess.Popen(
        [sys.executable, "-c", code, "slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 1
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("name", "good"),
    [("auto", True), ("cpu", True), ("cuda", True), ("cuda:1", True), ("mps", True),
     ("gpu", False), ("cuda:", False), ("cuda:-1", False), ("CPU\n", False), ("", False)],
)  # fmt: skip
def test_a_device_is_one_of_the_known_ones(name: str, good: bool) -> None:
    trial = typer.Typer()

    @trial.command()
    def show(device: options.Device = "auto") -> None:
        typer.echo(device)

    shown = CliRunner().invoke(trial, ["--device", name])
    assert shown.exit_code == (0 if good else 2)
    assert not good or shown.stdout == f"{name}\n"


def test_shared_options_have_the_names_that_the_readme_tells() -> None:
    trial = typer.Typer()
    seen: dict[str, object] = {}

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
        seen.update(locals())

    words = "--seed 7 --jobs 2 -o a.mp4 --overwrite --skip-existing --json -q -v -- -x"
    assert CliRunner().invoke(trial, words.split()).exit_code == 0
    assert seen["seed"] == 7
    assert seen["jobs"] == 2
    assert seen["out"] == Path("a.mp4")
    assert all(seen[flag] is True for flag in ("overwrite", "skip_existing", "as_json"))
    assert all(seen[flag] is True for flag in ("quiet", "verbose"))
    assert seen["word"] == "-x"


def test_results_go_to_stdout_and_the_rest_to_stderr(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    reporter = console.ConsoleReporter(verbose=True)
    reporter.print_result("b\udcff\n.mp4")
    reporter.info("[a] note")
    reporter.debug("a detail")
    reporter.warn("beware\x07")
    shown = capfdbinary.readouterr()
    assert shown.out == b"b\xff\n.mp4\n"  # as the file system has it
    assert shown.err == b"[a] note\na detail\nloris: warning: beware\\x07\n"


def test_quiet_leaves_results_and_warnings(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = console.ConsoleReporter(quiet=True, verbose=True)
    with reporter.stage("pose", total=2) as advance:
        advance()
        advance(1)
        reporter.info("no")
        reporter.debug("no")
    reporter.warn("yes")
    reporter.print_result("yes")
    shown = capfd.readouterr()
    assert shown.err == "loris: warning: yes\n"
    assert shown.out == "yes\n"


def test_off_a_terminal_a_stage_speaks_now_and_then(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *range(1, 31), 31.5])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with console.ConsoleReporter().stage("pose", total=30) as advance:
        for _ in range(30):
            advance()
    assert capfd.readouterr().err.splitlines() == [
        "pose: 33% after 10 s",
        "pose: 67% after 20 s",
        "pose: 100% after 30 s",
        "pose: done in 31.5 s",
    ]


def test_a_stage_that_fails_does_not_say_done(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError), console.ConsoleReporter().stage("pose"):
        raise InputError("no")
    assert capfd.readouterr().err == ""


def on_a_terminal() -> tuple[console.ConsoleReporter, io.StringIO]:
    screen = io.StringIO()
    reporter = console.ConsoleReporter()
    reporter._console = Console(file=screen, force_terminal=True, width=80)
    return reporter, screen


def test_on_a_terminal_overlapping_stages_are_bars_that_end_full() -> None:
    reporter, screen = on_a_terminal()
    with reporter.stage("pose [x]", total=10) as pose, reporter.stage("sound") as sound:
        pose(4)
        sound(2)
    for name in ("pose [x]", "sound"):
        *_, last = [line for line in screen.getvalue().splitlines() if name in line]
        assert "100%" in last


def test_bars_come_again_after_they_ended() -> None:
    reporter, screen = on_a_terminal()
    for name in ("first", "second"):
        with reporter.stage(name, total=1) as advance:
            advance()
    assert "second" in screen.getvalue()
    assert reporter._progress is None


def test_a_terminal_is_given_back_when_a_stage_fails() -> None:
    reporter, screen = on_a_terminal()
    with pytest.raises(InputError), reporter.stage("pose", total=2):
        raise InputError("no")
    assert screen.getvalue().endswith("\x1b[?25h")  # the cursor is shown again
