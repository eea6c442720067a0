"""Which plugins are imported, in which order, and where they come from."""

import hashlib
import json

import pytest

HOOK = "from mscore import hookimpl\n\n@hookimpl\n"
CRASH = "import os\nos._exit(77)\n"


def objective(name):
    return HOOK + f"def mscore_objectives():\n    return {{'{name}': 'nowhere:Thing'}}\n"


class TestBlocking:
    def test_a_plugin_that_is_not_blocked_would_crash(self, site):
        site.add("acme-crash", CRASH, entry="crash")
        assert site.run("from mscore.plugins import installed_plugins; installed_plugins()").returncode == 77

    @pytest.mark.parametrize("spelling", ["crash", "acme-crash", "acme_crash", "Acme.Crash", " crash ,"])
    def test_a_blocked_plugin_is_not_imported(self, site, spelling):
        site.add("acme-crash", CRASH, entry="crash")
        site.add("acme-good", objective("good"), entry="good")
        listed = site.plugins(MSCORE_DISABLE_PLUGINS=spelling)
        assert listed["crash"]["status"] == "blocked"
        assert listed["crash"]["reason"] == "blocked by MSCORE_DISABLE_PLUGINS or --without"
        assert listed["good"]["status"] == "ok"

    def test_only_the_listed_plugins_are_imported(self, site):
        site.add("acme-crash", CRASH, entry="crash")
        site.add("acme-good", objective("good"), entry="good")
        listed = site.plugins(MSCORE_PLUGINS="good")
        assert listed["crash"]["reason"] == "not listed in MSCORE_PLUGINS"
        assert {name for name, plugin in listed.items() if plugin["status"] == "ok"} == {"mscore", "good"}

    def test_an_empty_list_means_the_core_alone(self, site):
        site.add("acme-crash", CRASH, entry="crash")
        listed = site.plugins(MSCORE_PLUGINS="")
        assert [name for name, plugin in listed.items() if plugin["status"] == "ok"] == ["mscore"]

    def test_blocked_and_listed_is_blocked(self, site):
        site.add("acme-crash", CRASH, entry="crash")
        listed = site.plugins(MSCORE_PLUGINS="crash", MSCORE_DISABLE_PLUGINS="crash")
        assert listed["crash"]["status"] == "blocked"

    @pytest.mark.parametrize("variable", ["MSCORE_PLUGINS", "MSCORE_DISABLE_PLUGINS"])
    def test_a_name_that_is_not_installed(self, site, variable):
        site.add("acme-focal", objective("focal"), entry="focal")
        code = """
            import json
            from mscore.errors import PluginError
            from mscore.plugins import installed_plugins
            try:
                installed_plugins()
            except PluginError as error:
                print(json.dumps(str(error)))
        """
        message = site.output(code, **{variable: "fokal"})
        assert message.startswith("no plugin 'fokal' is installed. Did you mean 'focal'?")
        assert "Installed: " in message

    def test_the_core_cannot_be_blocked(self, site):
        done = site.run(
            "from mscore.plugins import installed_plugins; installed_plugins()", MSCORE_DISABLE_PLUGINS="mscore"
        )
        assert "PluginError: the core's own components (mscore) cannot be blocked" in done.stderr

    def test_asking_for_a_component_of_a_blocked_plugin(self, site):
        site.add("acme-focal", objective("soft"), entry="focal")
        code = """
            import json
            from mscore.components import UnknownComponent, find
            messages = []
            for name in ("focal/soft", "soft"):
                try:
                    find("objective", name)
                except UnknownComponent as error:
                    messages.append(str(error))
            print(json.dumps(messages))
        """
        qualified, bare = site.output(code, MSCORE_DISABLE_PLUGINS="focal")
        assert "acme-focal 0.1.0 is installed but blocked: blocked by MSCORE_DISABLE_PLUGINS" in qualified
        assert bare.startswith("unknown objective 'soft'.")
        assert "Blocked: focal." in bare


class TestOrder:
    def test_distribution_and_entry_name_decide(self, site):
        for name in ("zz-last", "aa-first", "mm-middle", "Bb.Second"):
            site.add(name.lower().replace(".", "-"), objective(name[:2].lower()), entry=name[:2].lower())
        module = "cc_two"
        site.add("cc-two", objective("two"), entry_points=f"[mscore]\ny = {module}\nx = {module}_other\n")
        (site.folder / "cc_two_other.py").write_text(objective("other"))
        names = [p["name"] for p in site.output(_LIST) if p["distribution"][:3] in ("zz-", "aa-", "mm-", "bb-", "cc-")]
        assert names == ["aa", "bb", "x", "y", "mm", "zz"]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_the_file_system_does_not(self, site, reverse):
        for name in ("acme-c", "acme-a", "acme-b"):
            site.add(name, objective(name[-1]), entry=name[-1])
        code = f"""
            import json, os
            listing = os.listdir
            os.listdir = lambda *args: sorted(listing(*args), reverse={reverse})
            from mscore.plugins import installed_plugins
            print(json.dumps([p.name for p in installed_plugins() if p.distribution.startswith("acme")]))
        """
        assert site.output(code) == ["a", "b", "c"]

    def test_the_core_comes_first(self, site):
        site.add("aaa", objective("a"))
        assert site.output(_LIST)[0]["name"] == "mscore"


_LIST = """
    import json
    from mscore.plugins import installed_plugins
    print(json.dumps([{"name": p.name, "distribution": p.distribution.lower()} for p in installed_plugins()]))
"""


def test_a_distribution_found_twice_is_one_plugin(site, tmp_path_factory):
    """The folder that is first on the path counts, as it does for imports."""
    site.add("acme-twice", objective("twice"), version="2.0", entry="twice")
    other = type(site)(tmp_path_factory.mktemp("other"))
    other.add("acme-twice", CRASH, version="1.0", entry="twice")
    found = site.output(
        "import json; from mscore.plugins import installed_plugins\n"
        "print(json.dumps([p.version for p in installed_plugins() if p.name == 'twice']))",
        PYTHONPATH=f"{site.folder}:{other.folder}",
    )
    assert found == ["2.0"]


def test_one_entry_name_from_two_distributions(site):
    site.add("acme-focal", objective("focal"), entry="focal")
    site.add("zeta-focal", objective("focal"), entry="focal")
    code = """
        import json
        from mscore.components import AmbiguousComponent, find
        messages = []
        for name in ("focal", "focal/focal"):
            try:
                find("objective", name)
            except AmbiguousComponent as error:
                messages.append(str(error))
        print(json.dumps([*messages, find("objective", "zeta-focal/focal").plugin.label]))
    """
    bare, by_plugin, chosen = site.output(code)
    both = "is provided by acme-focal 0.1.0 and zeta-focal 0.1.0; write 'acme-focal/focal' or 'zeta-focal/focal'"
    assert bare == f"objective 'focal' {both}"
    assert by_plugin == f"objective 'focal/focal' {both}"
    assert chosen == "zeta-focal 0.1.0"


def test_an_instance_can_be_a_plugin(site):
    code = (
        "from mscore import hookimpl\n\nclass Plugin:\n    @hookimpl\n    def mscore_objectives(self):\n"
        "        return {'a': 'nowhere:Thing'}\n    @hookimpl\n    def mscore_run_started(self, run):\n"
        "        print('started')\n\nplugin = Plugin()\n"
    )
    site.add("acme-instance", code, target="acme_instance:plugin", entry="instance")
    listed = site.plugins()["instance"]
    assert (listed["status"], listed["reason"]) == ("ok", "")
    assert listed["components"] == {"objective": {"a": "nowhere:Thing"}}


def test_importing_torch_at_load_is_noticed(site):
    site.add("acme-heavy", "import torch\n" + objective("heavy"), entry="heavy")
    site.add("acme-light", objective("light"), entry="light")
    listed = site.plugins(MSCORE_PLUGINS="heavy,light")
    assert listed["heavy"]["heavy"]
    assert not listed["light"]["heavy"]


class TestProvenance:
    CODE = """
        import json
        from mscore.plugins import installed_plugins
        print(json.dumps(next(p for p in installed_plugins() if p.name == "focal").provenance()))
    """

    def record(self, site, **metadata):
        site.add("acme-focal", objective("focal"), version="1.5", entry="focal", **metadata)
        return site.output(self.CODE)

    def test_a_wheel_from_an_index(self, site):
        listed = "acme_focal.py,sha256=abc,10\n"
        assert self.record(site, RECORD=listed) == {
            "plugin": "focal",
            "distribution": "acme-focal",
            "version": "1.5",
            "source": "index",
            "editable": False,
            "sha256": hashlib.sha256(listed.encode()).hexdigest(),
        }

    def test_a_wheel_from_an_address(self, site):
        direct = {"url": "https://example.org/acme_focal-1.5-py3-none-any.whl", "archive_info": {}}
        record = self.record(site, direct_url_json=json.dumps(direct), RECORD="")
        assert record["source"] == direct["url"]
        assert not record["editable"]

    def test_a_repository(self, site):
        direct = {"url": "https://example.org/acme.git", "vcs_info": {"vcs": "git", "commit_id": "f00"}}
        assert self.record(site, direct_url_json=json.dumps(direct))["source"] == "https://example.org/acme.git@f00"

    EDITABLE = json.dumps({"url": "file:///src/acme", "dir_info": {"editable": True}})

    def test_an_editable_module_changes_with_its_code(self, site):
        before = self.record(site, direct_url_json=self.EDITABLE)
        assert before["editable"]
        assert before["source"] == "file:///src/acme"
        module = site.folder / "acme_focal.py"
        module.write_text(module.read_text() + "# edited\n")
        assert site.output(self.CODE)["sha256"] != before["sha256"]

    @pytest.mark.parametrize("target", ["acme_package", "acme_package.plugin", "acme_package.plugin:plugin"])
    def test_an_editable_package_changes_with_any_of_its_files(self, site, target):
        package = site.folder / "acme_package"
        (package / "deep").mkdir(parents=True)
        code = (
            objective("focal") + "import types\nplugin = types.SimpleNamespace(mscore_objectives=mscore_objectives)\n"
        )
        for name in ("__init__", "plugin"):
            (package / f"{name}.py").write_text(code)
        (package / "deep" / "loss.py").write_text("a = 1\n")
        site.add("acme-focal", "", entry="focal", target=target, direct_url_json=self.EDITABLE)
        before = site.output(self.CODE)["sha256"]
        assert site.output(self.CODE)["sha256"] == before
        (package / "deep" / "loss.py").write_text("a = 2\n")
        after = site.output(self.CODE)["sha256"]
        assert after != before
        (package / "deep" / "loss.py").rename(package / "loss.py")
        assert site.output(self.CODE)["sha256"] != after
