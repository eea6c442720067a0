"""OpenAI's .model files: what they hold is read, and no code of theirs ever runs."""

import builtins
import collections
import os
import pickle
import subprocess

import numpy as np
import pytest
from mscore_plugin_vpt import load_vpt_policy, read_openai_model

from mscore import MscoreError


def described(**policy_kwargs):
    return {"model": {"args": {"net": {"args": policy_kwargs}, "pi_head_opts": {"temperature": 2.0}}}}


def written(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_the_file_that_people_have(checkpoints, golden):
    found = read_openai_model(checkpoints / "openai_tiny.model")
    assert found["policy_kwargs"] == golden("ckpt/vpt_expected.npz").settings()["vpt"]
    assert found["temperature"] == 2.0


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_numbers_of_every_kind(tmp_path, protocol):
    content = described(
        hidsize=np.int64(32),
        impala_width=np.float32(1.5),
        img_shape=np.array([32, 32, 3]),
        impala_chans=(4, 8, 8),
        impala_kwargs=collections.OrderedDict(post_pool_groups=np.int32(1)),
        init_norm_kwargs=collections.defaultdict(dict, group_norm_groups=1),
        note=b"bytes",
        others={1, 2},
        yes=np.bool_(True),
    )
    found = read_openai_model(written(tmp_path / "some.model", content, protocol))["policy_kwargs"]
    assert found == {
        "hidsize": 32,
        "impala_width": 1.5,
        "img_shape": [32, 32, 3],
        "impala_chans": [4, 8, 8],
        "impala_kwargs": {"post_pool_groups": 1},
        "init_norm_kwargs": {"group_norm_groups": 1},
        "note": b"bytes",
        "others": [1, 2],
        "yes": True,
    }
    assert type(found["hidsize"]) is int
    assert type(found["yes"]) is bool


MARK = "mark-of-the-attack"
ATTACKS = {
    "system": lambda path: Calls(os.system, f"touch {path}"),
    "popen": lambda path: Calls(subprocess.Popen, ["touch", str(path)]),
    "eval": lambda path: Calls(eval, f"open({str(path)!r}, 'w')"),
    "exec": lambda path: Calls(exec, f"open({str(path)!r}, 'w')"),
    "open": lambda path: Calls(open, str(path), "w"),
    "import": lambda path: Calls(builtins.__import__, "antigravity"),
    "getattr": lambda path: Calls(getattr, {}, "clear"),
    "numpy file": lambda path: Calls(np.save, str(path), 1),
    "numpy pickle": lambda path: Calls(np.load, str(path), None, True),
    "within": lambda path: described(hidsize=[{"deep": Calls(os.system, f"touch {path}")}]),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_attacks(tmp_path, name, protocol):
    path = written(tmp_path / "evil.model", ATTACKS[name](tmp_path / MARK), protocol)
    with pytest.raises(MscoreError, match=r"evil\.model is no file of VPT's \(it asks for"):
        read_openai_model(path)
    with pytest.raises(MscoreError, match=r"evil\.model"):
        load_vpt_policy(path, tmp_path / "none.weights")
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("builtins", "dict.fromkeys"),
        ("builtins", "str.format_map"),
        ("numpy", "ndarray.tofile"),
        ("numpy._core.multiarray", "scalar.__class__"),
        ("numpy._core.multiarray", "os.system"),
    ],
)
def test_names_with_dots_lead_nowhere(tmp_path, module, attribute):
    opcodes = pickle.PROTO + b"\x04"
    for text in (module, attribute):
        opcodes += pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
    opcodes += pickle.STACK_GLOBAL + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.STOP
    (tmp_path / "evil.model").write_bytes(opcodes)
    with pytest.raises(MscoreError, match="it asks for"):
        read_openai_model(tmp_path / "evil.model")


def test_an_array_of_objects_brings_no_code_in(tmp_path):
    array = np.empty(1, dtype=object)
    array[0] = Calls(os.system, f"touch {tmp_path / MARK}")
    with pytest.raises(MscoreError, match="it asks for"):
        read_openai_model(written(tmp_path / "evil.model", described(hidsize=array)))
    assert not (tmp_path / MARK).exists()


def test_damaged_files(checkpoints, tmp_path):
    whole = (checkpoints / "openai_tiny.model").read_bytes()
    random = np.random.default_rng(0)
    files = [b"", b"no pickle", *(whole[:cut] for cut in range(1, len(whole), 7))]
    for _ in range(1000):
        changed = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            changed[place] = random.integers(256)
        files.append(bytes(changed))
    refused = 0
    for content in files:
        (tmp_path / "some.model").write_bytes(content)
        try:
            read_openai_model(tmp_path / "some.model")
        except MscoreError:
            refused += 1
    assert refused > len(files) // 2


@pytest.mark.parametrize(
    "content", [[], {"model": {}}, {"model": {"args": {"net": {"args": [1]}}}}, {"model": {"args": None}}, 3]
)
def test_other_content(tmp_path, content):
    with pytest.raises(MscoreError, match=r"some\.model does not describe a VPT policy"):
        read_openai_model(written(tmp_path / "some.model", content))


def test_a_temperature_that_is_none(tmp_path):
    content = described(hidsize=32)
    del content["model"]["args"]["pi_head_opts"]
    assert "temperature" not in read_openai_model(written(tmp_path / "some.model", content))


def test_no_file(tmp_path):
    with pytest.raises(MscoreError, match=r"nowhere\.model cannot be read: No such file"):
        load_vpt_policy(tmp_path / "nowhere.model")


def test_arguments_that_the_network_has_no_use_for(tmp_path, tiny):
    path = written(tmp_path / "some.model", described(**tiny, some_future_thing=3, diff_mlp_embedding=False))
    with pytest.warns(UserWarning, match="no use for 'some_future_thing'$"):
        policy = load_vpt_policy(path)
    assert "some_future_thing" not in policy.policy_kwargs
