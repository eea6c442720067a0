import json
import sys

import pytest

import mscore
from mscore.errors import MscoreError
from mscore.runs.evaluating import evaluate_run

CONFIG = {"defaults": ["tiny"], "trainer": {"max_steps": 8}}


def test_a_run_is_evaluated_in_the_environment_of_its_config(tiny):
    directory = mscore.run(CONFIG).directory
    evaluation = evaluate_run(directory, episodes=3, video=False)
    assert evaluation.result.summary.episodes == 3
    assert evaluation.folder.parent == directory / "evaluations"
    kept = json.loads((evaluation.folder / "evaluation.json").read_text())
    assert (kept["weights"], kept["episodes"], len(kept["results"])) == ("trained", 3, 3)
    assert kept["settings"] == {"episodes": 3}


def test_averaged_weights_act_where_the_run_kept_them(tiny):
    directory = mscore.run({**CONFIG, "callbacks": {"running-mean": {}}}).directory
    assert evaluate_run(directory, episodes=1, video=False).averaged
    assert not evaluate_run(directory, episodes=1, video=False, averaged=False).averaged


def test_a_run_without_environment_says_what_to_do(tiny):
    directory = mscore.run({**CONFIG, "environment": None}).directory
    with pytest.raises(MscoreError, match="names no environment; train with the section `environment:`"):
        evaluate_run(directory, episodes=1)


def test_watching_a_run_needs_only_its_policy_and_environment(tiny, monkeypatch):
    directory = mscore.run(CONFIG).directory
    for module in [name for name in sys.modules if name.startswith("mscore_plugin_tiny.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "mscore_plugin_tiny.objective", None)
    assert evaluate_run(directory, episodes=1, video=False).result.summary.episodes == 1


def test_what_the_untrained_policy_did_is_shown_beside_it(tiny, capsys):
    directory = mscore.run({**CONFIG, "evaluation": {"episodes": 2}}).directory
    evaluation = evaluate_run(directory, episodes=1, video=False)
    assert evaluation.untrained.episodes == 2
    assert evaluation.to_dict()["untrained"]["episodes"] == 2
    assert evaluate_run(mscore.run(CONFIG).directory, episodes=1, video=False).untrained is None
