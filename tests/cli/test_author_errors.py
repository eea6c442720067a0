"""What the author of a plugin reads on the command line, for each way in which a plugin is usually wrong."""

import re

import pytest

HOOK = "from mscore import hookimpl\n\n@hookimpl\n"
WRONG = {
    "misspelt": (
        HOOK + "def mscore_objectivs(): return {}\n",
        "unknown hook 'mscore_objectivs'. Did you mean 'mscore_objectives'",
    ),
    "unmarked": (
        "def mscore_objectives(): return {}\n",
        "mscore_objectives is not decorated with @mscore.hookimpl",
    ),
    "argument": (
        HOOK + "def mscore_run_started(run, trainer): pass\n",
        "hook mscore_run_started has no argument 'trainer'; it may take: run",
    ),
    "default": (
        HOOK + "def mscore_run_finished(run, error=None): pass\n",
        "argument 'error' of hook mscore_run_finished has a default value; remove it",
    ),
    "class": (
        HOOK + "class Plugin: pass\n",
        "entry point 'mscore_plugin_class:Plugin' names a class; name a module, or an instance of the class",
    ),
    "newer": (
        "MSCORE_API = 99\n" + HOOK + "def mscore_objectives(): return {}\n",
        "written for plugin API 99, this mscore",
    ),
    "library": ("import nothere\n", "ModuleNotFoundError: No module named 'nothere'"),
}


def test_each_mistake_is_named_in_its_line_of_the_list(mscore, plugin, tmp_path):
    for name, (source, _) in WRONG.items():
        plugin(name, source)
    entry = tmp_path / "site" / "mscore_plugin_class-0.1.0.dist-info" / "entry_points.txt"
    entry.write_text("[mscore]\nclass = mscore_plugin_class:Plugin\n")
    done = mscore("plugins", COLUMNS="300")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    for name, (_, message) in WRONG.items():
        assert message in lines[name]
        assert ("incompatible" if name == "newer" else "broken") in lines[name]
        assert f"mscore-plugin-{name} " in lines[name]
    assert "upgrade mscore" in lines["newer"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mscore_plugin_lab.loss:Haf", "module 'mscore_plugin_lab.loss' has no attribute 'Haf'. Did you mean 'Half'?"),
        ("mscore_plugin_lab.los:Half", "there is no module 'mscore_plugin_lab.los' for its import string"),
        ("mscore_plugin_lab.needy:Half", "it needs the module 'nothere', which is not installed"),
    ],
    ids=["attribute", "own module", "library"],
)
def test_what_an_import_string_does_not_lead_to(mscore, plugin, target, message):
    source = HOOK + f"def mscore_objectives():\n    return {{'half': '{target}'}}\n"
    plugin("lab", source, loss="class Half:\n    pass\n", needy="import nothere\n")
    done = mscore("plugins", "show", "half")
    assert done.returncode == 2
    assert message in done.stderr
    assert "mscore-plugin-lab 0.1.0" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_verbose_list_says_what_loading_costs_and_who_imports_torch(mscore, plugin):
    source = HOOK + "def mscore_objectives():\n    return {'half': 'nowhere:Half'}\n"
    plugin("hefty", "import torch\n" + source)
    plugin("light", source)
    listed = mscore("plugins", "-v", MSCORE_PLUGINS="light,hefty", COLUMNS="300").stdout
    lines = {line.split()[0]: line for line in listed.splitlines() if line.startswith(("light", "hefty"))}
    assert "heavy: it imports torch when it is loaded" in lines["hefty"]
    assert "heavy" not in lines["light"]
    costs = {name: float(re.search(r"([\d.]+) ms", line)[1]) for name, line in lines.items()}
    assert costs["light"] < costs["hefty"]


def test_an_exception_in_a_hook_is_said_with_the_plugin_its_version_and_the_hook(mscore, plugin):
    source = (
        "from mscore import hookimpl\n\n@hookimpl\n"
        "def mscore_objectives():\n    return {'lab-imitate': 'mscore_plugin_tiny.objective:Imitate'}\n\n"
        "@hookimpl\ndef mscore_run_started(run):\n    raise RuntimeError('no disk')\n"
    )
    plugin("lab", source, version="1.5")
    done = mscore("run", "tiny", "trainer.max_steps=1", "objectives.lab-imitate={}")
    assert done.returncode == 1
    assert "error: RuntimeError: no disk" in done.stderr
    assert "in hook mscore_run_started of plugin 'lab' (mscore-plugin-lab 1.5)" in done.stderr
    assert "Traceback" not in done.stderr
