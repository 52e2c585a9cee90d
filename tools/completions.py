"""Write the shell completion scripts to ``completions/``."""

from pathlib import Path

from typer.completion import get_completion_script  # type: ignore[attr-defined]

SCRIPT_NAMES = {"bash": "loris.bash", "zsh": "_loris", "fish": "loris.fish"}

if __name__ == "__main__":
    folder = Path(__file__).resolve().parents[1] / "completions"
    folder.mkdir(exist_ok=True)
    for shell, name in SCRIPT_NAMES.items():
        script = get_completion_script(
            prog_name="loris", complete_var="_LORIS_COMPLETE", shell=shell
        )
        (folder / name).write_text(script + "\n")
