import json

import pytest
import torch

import mscore
from mscore.errors import MscoreError

STAGES = {
    "defaults": ["tiny"],
    "name": "two",
    "trainer": {"max_steps": 4},
    "stages": [{"name": "warm"}, {"name": "main", "init_from": "previous", "trainer": {"max_steps": 6}}],
}


def state(directory):
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


def test_stages_are_child_runs_and_hand_the_policy_on(tiny):
    result = mscore.run({**STAGES, "optimizer": {"learning_rate": 0.0}})
    warm, main = (result.directory / "stages" / name for name in ("1-warm", "2-main"))
    before, after = state(warm), state(main)
    assert (before["global_step"], after["global_step"]) == (4, 6)
    assert all(torch.equal(tensor, after["state_dict"][name]) for name, tensor in before["state_dict"].items())
    assert [stage.name for stage in result.report.stages] == ["warm", "main"]
    assert json.loads((result.directory / "run.json").read_text())["plugins"][0]["plugin"] == "tiny"


def test_the_policy_of_a_run_with_stages_is_the_last_stages(tiny):
    directory = mscore.run(STAGES).directory
    policy = mscore.load_policy(directory)
    last = state(directory / "stages" / "2-main")["state_dict"]
    assert torch.equal(policy.encoder[0].weight, last["mine_policy.encoder.0.weight"])


def test_a_stage_that_failed_is_gone_on_with_and_finished_ones_are_not_repeated(tiny):
    config = {**STAGES, "callbacks": {"saboteur": {"step": 5, "how": "terminate"}}}
    with pytest.raises(MscoreError, match="to go on: mscore run --resume runs/two/"):
        mscore.run(config)
    directory = (tiny / "runs" / "two" / "latest").resolve()
    warm = (directory / "stages" / "1-warm" / "run.json").read_text()
    result = mscore.run(resume=directory)
    assert result.report.status == "finished"
    assert (directory / "stages" / "1-warm" / "run.json").read_text() == warm
    assert state(directory / "stages" / "2-main")["global_step"] == 6


def test_a_stage_can_be_gone_on_with_by_itself(tiny):
    stage = mscore.run(STAGES).directory / "stages" / "2-main"
    assert mscore.run(resume=stage, overrides=["trainer.max_steps=7"]).report.step == 7
