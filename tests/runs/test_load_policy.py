import json
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file

import mscore
from mscore.errors import MscoreError
from mscore.plugins import installed_plugins
from mscore.runs import export

CONFIG = {"defaults": ["tiny"], "trainer": {"max_steps": 8}}
WINDOW = {"image": torch.linspace(-1, 1, 24).reshape(2, 3, 4), "first": torch.zeros(2, 3, dtype=torch.bool)}


@pytest.fixture
def run_dir(tiny):
    return mscore.run(CONFIG).directory


@pytest.fixture
def averaged_run(tiny):
    return mscore.run({**CONFIG, "callbacks": {"running-mean": {}}}).directory


def logits(policy):
    with torch.no_grad():
        return policy(WINDOW)[0]["pi_logits"]


def weight(source, **options):
    return mscore.load_policy(source, **options).encoder[0].weight


def test_a_run_its_checkpoint_and_its_export_are_the_same_policy(run_dir, tiny):
    export(run_dir, tiny / "out")
    policies = [mscore.load_policy(one) for one in (run_dir, run_dir / "checkpoints/last.ckpt", tiny / "out")]
    assert not any(policy.training for policy in policies)
    assert torch.equal(logits(policies[0]), logits(policies[1]))
    assert torch.equal(logits(policies[0]), logits(policies[2]))


def test_a_loaded_policy_acts(run_dir):
    action, _ = mscore.load_policy(str(run_dir)).get_action(WINDOW)
    assert action.shape == (2, 3)


def test_averaged_weights_are_taken_where_the_run_kept_them(averaged_run):
    average, trained = weight(averaged_run), weight(averaged_run, averaged=False)
    assert not torch.equal(average, trained)
    assert torch.equal(average, weight(averaged_run, averaged=True))


def test_averaged_weights_that_are_not_there_are_an_error(run_dir, tiny):
    with pytest.raises(MscoreError, match=r"holds no averaged weights.*no callback that keeps them"):
        mscore.load_policy(run_dir, averaged=True)
    with pytest.raises(MscoreError, match="holds no averaged weights"):
        export(run_dir, tiny / "out", averaged=True)
    assert not (tiny / "out").exists()


def test_the_twin_of_a_checkpoint_is_the_average(averaged_run):
    last = averaged_run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    average = checkpoint.pop("averaged_weights")
    twin = last.with_name("last-EMA.ckpt")
    torch.save({**checkpoint, "state_dict": {**checkpoint["state_dict"], **average}}, twin)
    assert torch.equal(weight(twin), weight(averaged_run))
    torch.save(checkpoint, last)  # the average is now in the twin only
    assert torch.equal(weight(last, averaged=True), weight(twin))
    with pytest.raises(MscoreError, match="holds averaged weights; the trained ones are in the file without -EMA"):
        weight(twin, averaged=False)


def test_an_export_is_readable_without_mscore(averaged_run, tiny):
    export(averaged_run, tiny / "out", averaged=True)
    text = (tiny / "out" / "config.json").read_text()
    described = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert described["policy"] == {"use": "tiny"}
    assert (described["weights"], described["step"], described["format"]) == ("averaged", 8, "mscore-policy")
    assert described["action_space"] == {"type": "Discrete", "n": 2, "start": 0}
    assert [plugin["plugin"] for plugin in described["plugins"]] == ["tiny"]
    tensors = load_file(tiny / "out" / "model.safetensors")
    assert torch.equal(tensors["encoder.0.weight"], weight(averaged_run))
    with pytest.raises(MscoreError, match="holds averaged weights only"):
        weight(tiny / "out", averaged=False)


def test_an_export_overwrites_nothing(run_dir, tiny):
    (tiny / "out").mkdir()
    export(run_dir, tiny / "out")
    with pytest.raises(MscoreError, match="out exists and is not an empty directory"):
        export(run_dir, tiny / "out")


def test_weights_that_do_not_fit_are_named_with_both_shapes(run_dir):
    last = run_dir / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    state = checkpoint["state_dict"]
    state["mine_policy.encoder.0.weight"] = torch.zeros(3, 4)
    state["mine_policy.extra"] = torch.zeros(1)
    del state["mine_policy.encoder.0.bias"]
    torch.save(checkpoint, last)
    with pytest.raises(MscoreError) as caught:
        mscore.load_policy(run_dir)
    message = str(caught.value)
    assert "encoder.0.bias is missing, the policy's is (8)" in message
    assert "extra is not in the policy, and is (1)" in message
    assert "encoder.0.weight is (3, 4), the policy's is (8, 4)" in message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.ckpt", b"not a checkpoint", "x.ckpt"),
        ("x.ckpt", pickle.dumps({"state_dict": print}), "could run code"),
        ("x.bin", b"", "is not a run's directory, a checkpoint"),
    ],
)
def test_what_is_no_policy_is_said(tiny, name, content, message):
    (tiny / name).write_bytes(content)
    with pytest.raises(MscoreError, match=message):
        mscore.load_policy(tiny / name)


def test_what_is_not_there_is_said(tiny):
    with pytest.raises(MscoreError, match="there is no run, checkpoint or exported policy at runs/x"):
        mscore.load_policy("runs/x")


def test_a_checkpoint_of_a_plain_script_says_what_to_do(run_dir):
    last = run_dir / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["hyper_parameters"] = {}
    torch.save(checkpoint, last)
    with pytest.raises(MscoreError, match=r"does not say how its policy is built.*'mine_policy.'"):
        mscore.load_policy(last)


def test_a_missing_plugin_is_named_with_the_line_that_installs_it(run_dir, monkeypatch):
    monkeypatch.delenv("MSCORE_PLUGINS")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "tiny_site" not in entry])
    installed_plugins.cache_clear()
    with pytest.raises(MscoreError, match=r"plugin 'tiny' .* not installed: pip install mscore-plugin-tiny==0.1.0"):
        mscore.load_policy(run_dir)


def test_a_run_starts_from_another_runs_weights(run_dir, averaged_run):
    still = {**CONFIG, "optimizer": {"learning_rate": 0.0}, "trainer": {"max_steps": 1}}
    assert torch.equal(weight(mscore.run({**still, "init_from": str(run_dir)}).directory), weight(run_dir))
    started = mscore.run({**still, "init_from": str(averaged_run / "checkpoints/last.ckpt")}).directory
    assert torch.equal(weight(started), weight(averaged_run))


def test_a_run_starts_from_an_export_and_from_a_layout_of_the_policys_own(run_dir, tiny):
    still = {**CONFIG, "optimizer": {"learning_rate": 0.0}, "trainer": {"max_steps": 1}}
    export(run_dir, tiny / "out")
    assert torch.equal(weight(mscore.run({**still, "init_from": "out"}).directory), weight(run_dir))
    torch.save(mscore.load_policy(run_dir).encoder.state_dict(), "published.tiny")
    started = mscore.run({**still, "init_from": "published.tiny"}).directory
    assert torch.equal(weight(started), weight(run_dir))


def test_starting_weights_that_do_not_fit_stop_the_run(run_dir):
    with pytest.raises(MscoreError, match=r"encoder.0.weight is \(8, 4\), the policy's is \(16, 4\)"):
        mscore.run({**CONFIG, "policy": {"use": "tiny", "hiddim": 16}, "init_from": str(run_dir)})
