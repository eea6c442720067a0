"""Components by name: qualified names, clashes, unknown names, and imports that fail."""

import sys
import types

import pytest

from mscore import hookimpl
from mscore.components import (
    AmbiguousComponent,
    UnimportableComponent,
    UnknownComponent,
    components,
    find,
    plugin_directory,
)
from mscore.hookspecs import KIND_OF_HOOK
from mscore.plugins import PluginSet


@pytest.fixture
def plugins():
    return PluginSet(discover=False)


def add(plugins, name, distribution, version="0.1.0", **registrations):
    """A plugin that registers, for example, ``objectives={"kl": "m:C"}``."""
    module = types.ModuleType(f"loaded_for_a_test_{distribution.replace('-', '_')}")
    for kind, mapping in registrations.items():
        setattr(module, f"mscore_{kind}", _hook(mapping, f"mscore_{kind}"))
    plugin = plugins.add_module(module, name, distribution, version)
    assert plugin.status == "ok", plugin.reason
    return plugin


def _hook(mapping, name):
    def hook():
        return mapping

    hook.__name__ = name
    return hookimpl(hook)


class TestNames:
    def test_by_bare_and_qualified_name(self, plugins):
        add(plugins, "kl", "mscore-plugin-kl", objectives={"kl": "m:A", "reference-kl": "m:B"})
        for name in ("kl", "kl/kl", "mscore-plugin-kl/kl", "mscore_plugin_kl/kl"):
            assert find("objective", name, plugins).target == "m:A"
        assert find("objective", "kl/reference-kl", plugins).target == "m:B"
        assert find("objective", "kl", plugins).qualified == "mscore-plugin-kl/kl"

    def test_a_clash_is_an_error_that_lists_both(self, plugins):
        add(plugins, "kl", "mscore-plugin-kl", "0.2", objectives={"kl": "m:A"})
        add(plugins, "acme", "acme-kl", "1.0", objectives={"kl": "m:B"})
        with pytest.raises(AmbiguousComponent) as raised:
            find("objective", "kl", plugins)
        assert str(raised.value) == (
            "objective 'kl' is provided by mscore-plugin-kl 0.2 and acme-kl 1.0; write 'kl/kl' or 'acme/kl'"
        ) or str(raised.value) == (
            "objective 'kl' is provided by acme-kl 1.0 and mscore-plugin-kl 0.2; write 'acme/kl' or 'kl/kl'"
        )
        assert find("objective", "kl/kl", plugins).target == "m:A"
        assert find("objective", "acme-kl/kl", plugins).target == "m:B"

    def test_a_clash_with_a_built_in(self, plugins):
        add(plugins, "acme", "acme-optimizers", optimizers={"adamw": "m:Mine"})
        with pytest.raises(AmbiguousComponent, match=r"write .*'mscore/adamw'"):
            find("optimizer", "adamw", plugins)
        assert find("optimizer", "acme/adamw", plugins).target == "m:Mine"
        assert find("optimizer", "mscore/adamw", plugins).plugin.name == "mscore"

    def test_one_name_in_two_kinds_is_no_clash(self, plugins):
        add(plugins, "minigrid", "p", environments={"minigrid": "m:E"}, datamodules={"minigrid": "m:D"})
        assert find("environment", "minigrid", plugins).target == "m:E"
        assert find("datamodule", "minigrid", plugins).target == "m:D"

    def test_two_entry_points_of_one_distribution(self, plugins):
        add(plugins, "a", "acme", objectives={"x": "m:A"})
        add(plugins, "b", "acme", objectives={"x": "m:B"})
        with pytest.raises(AmbiguousComponent, match="write 'a/x' or 'b/x'"):
            find("objective", "x", plugins)
        assert find("objective", "b/x", plugins).target == "m:B"

    def test_every_kind_can_be_listed(self, plugins):
        for kind in KIND_OF_HOOK.values():
            names = [component.name for component in components(kind, plugins)]
            assert names == sorted(names)


class TestUnknownNames:
    def test_the_nearest_names(self, plugins):
        add(plugins, "kl", "k", objectives={"kl": "m:A", "focal": "m:B"})
        with pytest.raises(UnknownComponent) as raised:
            find("objective", "fokal", plugins)
        assert str(raised.value) == "unknown objective 'fokal'. Did you mean 'focal'? Available: focal, kl."

    def test_a_kind_with_many_names_is_not_listed_in_full(self, plugins):
        with pytest.raises(UnknownComponent, match=r"'model-checkpoint' .*\? `mscore plugins` lists all \d+\."):
            find("callback", "model-chekpoint", plugins)

    def test_nothing_of_the_kind(self, plugins):
        with pytest.raises(UnknownComponent, match=r"unknown policy 'x'\. Available: none\."):
            find("policy", "x", plugins)

    @pytest.mark.parametrize("entry", plugin_directory(), ids=lambda entry: entry["distribution"])
    def test_a_known_plugin_that_is_not_installed(self, plugins, entry):
        for kind, names in entry["provides"].items():
            for name in names:
                with pytest.raises(UnknownComponent) as raised:
                    find(kind, name, plugins)
                assert str(raised.value) == (
                    f"no {kind} {name!r} is installed; {entry['distribution']} provides it: "
                    f"pip install {entry['distribution']}"
                )

    def test_a_known_plugin_by_its_qualified_name(self, plugins):
        with pytest.raises(UnknownComponent, match="pip install mscore-plugin-kl"):
            find("objective", "kl/kl", plugins)
        with pytest.raises(UnknownComponent, match="pip install mscore-plugin-kl"):
            find("objective", "mscore-plugin-kl/reference-kl", plugins)

    def test_another_plugins_name_does_not_suggest_an_installation(self, plugins):
        add(plugins, "acme", "acme", objectives={"focal": "m:A"})
        with pytest.raises(UnknownComponent) as raised:
            find("objective", "acme/kl", plugins)
        assert "pip install" not in str(raised.value)
        assert str(raised.value) == (
            "unknown objective 'acme/kl': plugin 'acme' (acme 0.1.0) has no objective 'kl'. It provides: focal."
        )

    def test_a_qualifier_that_is_no_plugin(self, plugins):
        add(plugins, "acme", "acme", objectives={"focal": "m:A"})
        with pytest.raises(UnknownComponent, match=r"no plugin 'acne' is installed\. Did you mean 'acme'\?"):
            find("objective", "acne/focal", plugins)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that can be imported during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written = []

    def write(name, code):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        written.append(name)

    yield write
    for name in list(sys.modules):
        if name.split(".")[0] in {each.split(".")[0] for each in written}:
            del sys.modules[name]


class TestImporting:
    def component(self, plugins, target):
        add(plugins, "acme", "acme-focal", "1.2", objectives={"focal": target})
        return find("objective", "focal", plugins)

    def fails(self, plugins, target):
        with pytest.raises(UnimportableComponent) as raised:
            self.component(plugins, target).load()
        prefix = "objective 'focal' of plugin 'acme' (acme-focal 1.2) cannot be imported: "
        assert str(raised.value).startswith(prefix)
        return str(raised.value).removeprefix(prefix)

    def test_finding_imports_nothing(self, plugins, module):
        module("imported_too_early", "raise AssertionError")
        assert self.component(plugins, "imported_too_early:Thing").target == "imported_too_early:Thing"

    def test_a_class_and_a_nested_attribute(self, plugins, module):
        module("importable_package.inner", "class Outer:\n    class Inner:\n        pass\n")
        loaded = self.component(plugins, "importable_package.inner:Outer.Inner").load()
        assert loaded.__qualname__ == "Outer.Inner"

    def test_a_module_that_it_needs_is_not_installed(self, plugins, module):
        module("needs_a_library", "import library_not_installed\n")
        assert self.fails(plugins, "needs_a_library:Thing") == (
            "it needs the module 'library_not_installed', which is not installed"
        )

    @pytest.mark.parametrize("target", ["not_there_at_all:Thing", "not_there_at_all.inner:Thing"])
    def test_its_own_module_does_not_exist(self, plugins, target):
        assert self.fails(plugins, target) == (
            f"there is no module 'not_there_at_all' for its import string {target!r}; reinstall acme-focal"
        )

    def test_a_package_without_the_module(self, plugins, module):
        module("has_no_such_part.__init__", "")
        assert "there is no module 'has_no_such_part.loss'" in self.fails(plugins, "has_no_such_part.loss:Thing")

    def test_an_attribute_that_does_not_exist(self, plugins, module):
        module("misspelt_attribute", "class FocalLoss:\n    pass\n")
        assert self.fails(plugins, "misspelt_attribute:FocalLos") == (
            "module 'misspelt_attribute' has no attribute 'FocalLos'. Did you mean 'FocalLoss'?"
        )

    def test_an_import_that_raises(self, plugins, module):
        module("raises_at_import", "raise RuntimeError('no\\n   driver')\n")
        assert self.fails(plugins, "raises_at_import:Thing") == "RuntimeError: no driver"

    def test_an_import_that_exits(self, plugins, module):
        module("exits_at_import", "raise SystemExit(1)\n")
        assert self.fails(plugins, "exits_at_import:Thing") == "SystemExit: 1"

    def test_a_syntax_error(self, plugins, module):
        module("cannot_be_parsed", "def f(:\n")
        assert "SyntaxError: invalid syntax" in self.fails(plugins, "cannot_be_parsed:Thing")

    def test_a_lazy_attribute_whose_module_is_missing(self, plugins, module):
        """Packages export lazily (PEP 562): there the import happens in getattr."""
        module("lazy_names", "def __getattr__(name):\n    import library_not_installed\n")
        assert self.fails(plugins, "lazy_names:Thing") == (
            "it needs the module 'library_not_installed', which is not installed"
        )

    def test_a_module_not_found_error_without_a_name(self, plugins, module):
        module("raises_by_hand", "raise ModuleNotFoundError('get the simulator first')\n")
        assert self.fails(plugins, "raises_by_hand:Thing") == "ModuleNotFoundError: get the simulator first"
