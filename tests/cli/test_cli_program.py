import subprocess
import sys

import pytest

from mscore import __version__

HEAVY = ("torch", "lightning", "numpy", "omegaconf", "pydantic", "mscore_plugin_tiny.policy")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["plugins", "--json"], ["recipes"], ["run", "--help"], ["tiny", "--help"], ["--version"]],
)
def test_looking_around_imports_nothing_heavy(arguments, python):
    loaded = f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    program = f"import sys\nfrom mscore.cli.program import run_program\nrun_program({arguments!r})\n{loaded}"
    done = python("-c", program)
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout[-200:] + done.stderr


def test_version_and_module(mscore):
    assert mscore("--version").stdout == f"mscore {__version__}\n"
    assert mscore("-h").stdout.startswith("Usage: mscore [OPTIONS] COMMAND")


@pytest.mark.parametrize(("typed", "meant"), [("plugin", "plugins"), ("rnu", "run"), ("recipe", "recipes")])
def test_an_unknown_command_is_answered_with_the_nearest(cli, typed, meant):
    code, _, err = cli(typed)
    assert code == 2
    assert f"There is no command 'mscore {typed}'. Did you mean '{meant}'?" in err


def test_an_unknown_subcommand_too(cli):
    code, _, err = cli("plugins", "shwo")
    assert code == 2
    assert "There is no command 'mscore plugins shwo'. Did you mean 'show'?" in err


@pytest.mark.parametrize("arguments", [["--without", "tiny", "plugins"], ["plugins", "--without", "tiny"]])
def test_a_plugin_can_be_left_out_before_and_after_the_command(cli, arguments):
    code, out, _ = cli(*arguments)
    assert code == 0
    assert "blocked by MSCORE_DISABLE_PLUGINS or --without" in out


def test_leaving_out_what_is_not_installed_is_an_error(cli):
    code, _, err = cli("--without", "tinny", "plugins")
    assert (code, "no plugin 'tinny' is installed. Did you mean 'tiny'?" in err) == (2, True)


def test_a_plugins_commands_are_called_by_their_path(cli):
    assert cli("tiny", "hello", "you") == (0, "hello you\n", "")
    _, out, _ = cli("--help")
    assert "tiny      Commands from tiny." in out


def test_a_plugins_command_that_cannot_be_imported_is_one_line(cli):
    code, out, err = cli("tiny", "gone")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "command 'tiny gone' of plugin 'tiny' (mscore-plugin-tiny 0.1.0) cannot be imported" in err


def test_two_plugins_with_one_command_are_told_apart_by_leaving_one_out(mscore, plugin):
    hook = "from mscore import hookimpl\n@hookimpl\ndef mscore_commands():\n"
    source = hook + "    return {'tiny hello': 'x:y', 'run': 'x:y'}\n"
    plugin("rude", source)
    done = mscore("tiny", "hello", "you")
    assert done.returncode == 2
    assert "`mscore --without rude tiny hello` or `mscore --without tiny tiny hello`" in done.stderr
    assert mscore("--without", "rude", "tiny", "hello", "you").stdout == "hello you\n"
    assert "(built-in; plugin rude claims it too)" in " ".join(mscore("--help").stdout.split())


def test_nothing_is_lost_when_the_reader_goes_away(cli):
    shell = f"{sys.executable} -m mscore plugins --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
