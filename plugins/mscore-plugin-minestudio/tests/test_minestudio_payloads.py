"""Payloads: what data comes through, that nothing else does, and that no bytes do more than raise."""

import copyreg
import pickle
import pickletools
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS
from mscore_plugin_minestudio.storage.lmdb_reader import LmdbReader
from mscore_plugin_minestudio.storage.payloads import ArrayPayloads, PayloadError, dump_payload, load_payload

from mscore import MscoreError

PROTOCOLS = (3, 4, 5)
NATIVE = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)


def same(one, other):
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(map(same, one.values(), other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other or one != one


def stored(golden, *folders):
    """Every pickled value of the golden dataset."""
    values = []
    for folder in sorted(folder for name in folders for folder in (golden / "dataset").glob(name)):
        reader = LmdbReader(folder)
        keys = [key for key in list(reader.keys()) if folder.parent.name != "image" or key.startswith(b"__")]
        values += [reader.get(key) for key in keys]
    return values


@pytest.fixture(scope="module")
def payloads(golden):
    return stored(golden, "image/*", "action/*", "meta_info/*", "segmentation/*", "event")


@pytest.fixture(scope="module")
def actions(golden):
    return [raw for raw in stored(golden, "action/*") if len(raw) > 4000]


# What comes through


def test_every_payload_of_the_golden_dataset(payloads):
    assert len(payloads) == 270
    for raw in payloads:
        value = pickle.loads(raw)
        assert same(load_payload(raw), value)
        assert dump_payload(value) == pickle.dumps(value, 4)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_that_holds_arrays(payloads, protocol):
    for raw in payloads:
        value = pickle.loads(raw)
        assert same(load_payload(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("core", [b"numpy.core.", b"numpy._core."])
def test_numpys_names_of_both_generations(protocol, core):
    value = {"array": np.arange(6.0).reshape(2, 3), "scalar": np.float32(2.5)}
    raw = pickle.dumps(value, protocol)
    other = b"numpy._core." if b"numpy._core." in raw else b"numpy.core."
    if protocol == 3:
        raw = raw.replace(other, core)
    else:
        # The names' lengths stand before them, and the frame's before all.
        for module in (b"multiarray", b"numeric"):
            old, new = other + module, core + module
            raw = raw.replace(bytes([len(old)]) + old, bytes([len(new)]) + new)
        raw = raw[:3] + struct.pack("<Q", len(raw) - 11) + raw[11:]
    assert core in raw
    assert same(load_payload(raw), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [np.arange(24, dtype=dtype).reshape(2, 3, 4) for dtype in NATIVE if dtype != "bool"]
    + [
        np.array([True, False]),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::2],
        np.array(3.0),
        np.array(True),
        np.empty((0, 3), np.float32),
        np.empty((3, 0), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_arrays(array, protocol):
    loaded = load_payload(pickle.dumps({"a": array, "again": array}, protocol))
    assert same(loaded["a"], array)
    assert same(loaded["again"], array)
    assert not loaded["a"].flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_byte_orders_become_the_native_one(protocol):
    array = np.array([1.5, -2.0, 1e300], ">f8")
    loaded = load_payload(pickle.dumps(array, protocol))
    assert loaded.dtype.isnative
    np.testing.assert_array_equal(loaded, array)


def test_a_pickle_without_its_needless_marks(payloads):
    for raw in payloads:
        assert same(load_payload(pickletools.optimize(raw)), pickle.loads(raw))


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text()
ARRAYS = st_numpy.arrays(st.sampled_from(NATIVE), st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
KEYS = st.text() | st.integers(-9, 9) | st.tuples(st.integers(0, 9), st.text())
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.sampled_from(PROTOCOLS))
def test_data_comes_through_as_it_is(value, protocol):
    assert same(load_payload(pickle.dumps(value, protocol)), value)
    assert same(load_payload(dump_payload(value)), value)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), np.datetime64("2022-01-01"), np.array(["text"]), 2**80])
def test_what_could_not_be_read_is_not_written(value):
    with pytest.raises(PayloadError):
        dump_payload({"value": value})


# Dicts of arrays, read by their template


def test_templates_give_what_reading_gives(actions):
    payloads = ArrayPayloads()
    for raw in [*actions, *(pickle.dumps(pickle.loads(raw), 5) for raw in actions), *actions]:
        assert same(payloads.load(raw), pickle.loads(raw))


def test_a_template_is_not_used_for_what_differs_around_the_arrays(actions):
    payloads = ArrayPayloads()
    for raw in actions:
        payloads.load(raw)
    one = actions[0]
    other = one.replace(b"jump", b"jumq")
    assert list(payloads.load(other)) == [key.replace("jump", "jumq") for key in ACTION_KEYS]
    for position in range(0, len(one), 61):
        changed = one[:position] + bytes([one[position] ^ 0x55]) + one[position + 1 :]
        assert outcome(ArrayPayloads().load, changed) == outcome(payloads.load, changed)


@pytest.mark.parametrize(
    "arrays",
    [
        {"one": np.zeros(1, bool), "two": np.zeros(1, np.int8)},
        {"flags": np.zeros(8, bool), "number": np.arange(8)},
        {"empty": np.zeros((0, 2)), "number": np.arange(8)},
        {"fortran": np.asfortranarray(np.arange(6).reshape(2, 3))},
        {"swapped": np.arange(4, dtype=">i4")},
    ],
    ids=lambda arrays: next(iter(arrays)),
)
def test_templates_of_special_arrays(arrays):
    payloads = ArrayPayloads()
    for change in range(3):
        value = {name: array + array.dtype.type(change % 2) for name, array in arrays.items()}
        for protocol in PROTOCOLS:
            loaded = payloads.load(pickle.dumps(value, protocol))
            for name, array in value.items():
                np.testing.assert_array_equal(loaded[name], array)


def test_the_templates_kept_are_few(actions):
    payloads = ArrayPayloads()
    for count in range(1, 200):
        loaded = payloads.load(dump_payload({"a": np.arange(count), "b": np.ones(count)}))
        assert same(loaded, {"a": np.arange(count), "b": np.ones(count)})
    assert len(payloads._templates) <= 64


@pytest.mark.parametrize("value", [[1], {"a": 1}, {1: np.zeros(3)}, np.zeros(3)])
def test_what_is_no_dict_of_arrays_is_refused(value):
    with pytest.raises(PayloadError, match=r"expected a (dict of arrays|name and an array)"):
        ArrayPayloads().load(dump_payload(value))


def outcome(load, raw):
    try:
        return repr(load(raw))
    except PayloadError as error:
        return str(error)


# Attacks


class Runs:
    """Its pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_no_code_runs(tmp_path, protocol):
    file = tmp_path / "made"
    raw = pickle.dumps({"yaw": Runs(open, str(file), "w")}, protocol)
    with pytest.raises(PayloadError, match=r"(names 'io\.open'|of protocol 3 to 5)"):
        load_payload(raw)
    assert not file.exists()
    pickle.loads(raw)["yaw"].close()
    assert file.exists(), "the attack is none"


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def blob(value):
    return b"B" + struct.pack("<I", len(value)) + value


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
EMPTY_ARRAY = RECONSTRUCT + name("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
INT64 = (
    name("numpy", "dtype")
    + text("i8")
    + b"\x89\x88\x87R(K\x03"
    + text("<")
    + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def array(shape, dtype=INT64, content=b""):
    """An array of the given shape (operations), dtype (operations) and bytes."""
    return EMPTY_ARRAY + b"(K\x01" + shape + dtype + b"\x89" + blob(content) + b"tb"


def dtype(code, order="<", rest=b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"):
    return name("numpy", "dtype") + text(code) + b"\x89\x88\x87R(K\x03" + text(order) + rest + b"tb"


POINTERS = dtype("O8", "|", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00")
"""Objects without the flags that say so: their bytes are taken for addresses (data.md, section 7)."""

ATTACKS = {
    "array of addresses": array(b"K\x01\x85", POINTERS, b"A" * 8),
    "array of objects": array(b"K\x01\x85", dtype("O8", "|", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3f"), b"A" * 8),
    "structured dtype": array(b"K\x01\x85", dtype("V8", "|", b"N(" + text("a") + b"tNK\x08K\x01K\x00"), b"A" * 8),
    "subarray dtype": array(b"K\x01\x85", dtype("V8", "|", INT64 + b"K\x01\x86NNK\x08K\x08K\x00"), b"A" * 8),
    "dtype of text": array(b"K\x01\x85", dtype("U2"), b"A" * 8),
    "dtype of dates": array(b"K\x01\x85", dtype("M8"), b"A" * 8),
    "long double": array(b"K\x01\x85", dtype("f16"), b"A" * 16),
    "dtype without a byte order": array(b"K\x01\x85", name("numpy", "dtype") + text("i8") + b"\x89\x88\x87R", b"A" * 8),
    "shape larger than its bytes": array(b"M\xff\xff\x85", content=b"A" * 8),
    "shape that overflows": array(b"\x8a\x05\x00\x00\x00\x00\x20\x8a\x05\x00\x00\x00\x00\x10\x86", content=b""),
    "empty shape too large for numpy": array(b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f\x86"),
    "empty shape beyond 64 bits": array(b"K\x00\x8a\x09" + b"\xff" * 8 + b"\x7f\x86"),
    "negative shape": array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", content=b"A" * 8),
    "shape of bools": array(b"\x88\x85", content=b"A" * 8),
    "shape of a list": array(b"]K\x01a", content=b"A" * 8),
    "shape of many dimensions": array(b"(" + b"K\x01" * 100 + b"t", content=b"A" * 8),
    "array without a state": EMPTY_ARRAY,
    "array of another type": RECONSTRUCT + name("numpy", "dtype") + b"K\x00\x85C\x01b\x87R",
    "array type called": name("numpy", "ndarray") + b"K\x05\x85R",
    "function of numpy's": name("numpy", "load") + text("file.npy") + b"\x85R",
    "attribute of a name": name("numpy.core.multiarray", "_reconstruct.__globals__"),
    "name through another module": name("numpy.core.multiarray.sys", "modules"),
    "name in lines": b"cos\nsystem\n" + text("true") + b"\x85R",
    "name alone": RECONSTRUCT,
    "name in a list": b"]" + RECONSTRUCT + b"a",
    "name in a key": b"}" + RECONSTRUCT + b"K\x01s",
    "array in a key": b"}" + array(b"K\x01\x85", content=b"A" * 8) + b"K\x01s",
    "state of a name": RECONSTRUCT + b"}" + text("__code__") + b"K\x01sb",
    "state of slots": RECONSTRUCT + b"N}" + text("__defaults__") + b"K\x01\x85s\x86b",
    "state of a dict": b"}}" + text("__class__") + b"K\x01sb",
    "call of a value": b"]K\x01\x85R",
    "call with a list": RECONSTRUCT + b"]R",
    "bytes": b"C\x01b",
    "bytes in a list": b"]C\x01ba",
    "bytearray": b"\x96" + struct.pack("<Q", 3) + b"abc",
    "items for a bytearray": b"\x96" + struct.pack("<Q", 3) + b"abcK\x01a",
    "items for an array": array(b"K\x01\x85", content=b"A" * 8) + b"K\x00K\x01s",
    "persistent id": b"Pname\n",
    "persistent id from the stack": text("name") + b"Q",
    "extension of one byte": b"\x82\xf0",
    "extension of two bytes": b"\x83\xf0\x00",
    "extension of four bytes": b"\x84\xf0\x00\x00\x00",
    "instance": b"(ios\nsystem\n",
    "object": b"(" + RECONSTRUCT + b"o",
    "new object": RECONSTRUCT + b")\x81",
    "new object with names": RECONSTRUCT + b")}\x92",
    "buffer from outside": b"\x97",
    "read-only buffer": b"\x96" + struct.pack("<Q", 3) + b"abc\x98",
    "set": b"\x8f",
    "frozen set": b"(K\x01\x91",
    "number in text": b"I1\n",
    "long number": b"\x8a\x0a" + b"\x01" * 10,
    "very long number": b"\x8b" + struct.pack("<I", 2**20) + b"\x01" * 2**20,
    "half a character": b"\x8c\x03\xed\xa0\x80",
    "list in itself": b"]\x94h\x00a",
    "dict in itself": b"}\x94" + text("a") + b"h\x00s",
    "tuple in itself": b"]\x94h\x00\x85\x94a",
    "a billion values": b"(]\x94" + b"".join(b"(" + b"h%c" % n * 10 + b"t\x94" for n in range(9)) + b"t",
    "very deep lists": b"]" * 100_000 + b"a" * 99_999,
    "very deep tuples": b")" + b"\x85" * 200_000,
    "very deep key": b"}" + b")" + b"\x85" * 200_000 + b"K\x01s",
    "key of tuples of tuples": b"})\x85K\x01s",
    "very many values": b"]" + b"(" + b"]" * 2_000_001 + b"e",
    "text longer than the payload": b"\x8d" + struct.pack("<Q", 2**62),
    "bytes longer than the payload": b"\x8e" + struct.pack("<Q", 2**40),
    "bytearray longer than the payload": b"\x96" + struct.pack("<Q", 2**40),
    "frame longer than the payload": b"\x95" + struct.pack("<Q", 2**62),
    "mark without values": b"]K\x01(0",
    "values taken twice": b"](aa",
    "items without a mark": b"]K\x01e",
    "odd items": b"}(K\x01K\x02K\x03u",
    "memo that is not there": b"h\x07",
    "memo of nothing": b"\x94",
    "tuple of nothing": b"\x87",
    "two values": b"K\x01K\x02",
    "no value": b"",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(attack):
    raw = b"\x80\x05" + ATTACKS[attack] + b"."
    start = time.process_time()
    with pytest.raises(PayloadError):
        load_payload(raw)
    assert time.process_time() - start < 10
    with pytest.raises(PayloadError):
        ArrayPayloads().load(raw[:1000])


def test_the_parts_that_attacks_are_made_of_are_right():
    content = np.arange(3).tobytes()
    assert same(load_payload(b"\x80\x05" + array(b"K\x03\x85", content=content) + b"."), np.arange(3))
    assert same(pickle.loads(b"\x80\x05" + array(b"K\x03\x85", content=content) + b"."), np.arange(3))
    assert load_payload(b"\x80\x05}" + text("a") + b"K\x01s.") == {"a": 1}


def test_an_extension_that_is_registered_is_not_used():
    # The C unpickler takes one from its cache without asking anybody.
    copyreg.add_extension("os", "system", 0xF0)
    try:
        for code in (b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"):
            pickle.loads(b"\x80\x04" + code + b".")
            with pytest.raises(PayloadError, match="operation EXT"):
                load_payload(b"\x80\x04" + code + b".")
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


@pytest.mark.parametrize("put", [b"r" + struct.pack("<I", 2**31 - 1), b"q\xff"])
def test_a_far_memo_takes_no_memory(put):
    # The C unpickler fills a table up to the number that the payload names: 16 GB for these 8 bytes.
    tracemalloc.start()
    assert load_payload(b"\x80\x03K\x05" + put + b".") == 5
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_a_payload_of_many_bytes_is_refused():
    raw = dump_payload([np.zeros(1000)])
    with pytest.raises(PayloadError, match="expected at most"):
        load_payload(raw + b"." * 64 * 1024 * 1024)


def test_bytes_that_are_no_bools_become_some():
    loaded = load_payload(b"\x80\x05" + array(b"K\x03\x85", dtype("b1", "|"), b"\x00\x01\x02") + b".")
    assert loaded.view(np.uint8).tolist() == [0, 1, 1]


def test_a_refusal_is_for_users():
    with pytest.raises(MscoreError, match="malformed behind byte") as raised:
        load_payload(b"\x80\x04K")
    assert "\n" not in str(raised.value)


# No bytes do more than raise


def test_every_truncation_is_refused(payloads):
    for raw in payloads[::20]:
        for end in range(0, len(raw), max(1, len(raw) // 200)):
            with pytest.raises(PayloadError):
                load_payload(raw[:end])
        with pytest.raises(PayloadError):
            load_payload(raw + b"\x00")


def holds_plain_data_or_is_refused(load, raw):
    try:
        value = load(raw)
    except PayloadError:
        return
    repr(value)
    waiting = [value]
    while waiting:
        item = waiting.pop()
        assert type(item) in {str, int, float, bool, type(None), tuple, list, dict, np.ndarray} or item.dtype.isnative
        waiting += item if type(item) in (list, tuple) else [*item, *item.values()] if type(item) is dict else ()


OPERATIONS = [operation.code.encode("latin-1") for operation in pickletools.opcodes]
PIECES = st.one_of(
    st.sampled_from(OPERATIONS),
    st.sampled_from([RECONSTRUCT, EMPTY_ARRAY, INT64, text("a"), b"K\x01", b"h\x00", b"h\x01", b"C\x01b"]),
    st.sampled_from([piece for piece in ATTACKS.values() if len(piece) < 300]),
    st.binary(max_size=9),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40), st.sampled_from(PROTOCOLS))
@example([], 4)
def test_no_operations_do_more_than_raise(pieces, protocol):
    raw = b"\x80" + bytes([protocol]) + b"".join(pieces) + b"."
    holds_plain_data_or_is_refused(load_payload, raw)
    holds_plain_data_or_is_refused(ArrayPayloads().load, raw)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_payload_does_more_than_raise(payloads, data):
    raw = bytearray(data.draw(st.sampled_from(payloads[::7])))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["set", "delete", "insert", "swap"])):
            case "set":
                raw[position] = data.draw(st.integers(0, 255))
            case "delete":
                del raw[position : position + data.draw(st.integers(1, 20))]
            case "insert":
                raw[position:position] = data.draw(PIECES)
            case "swap":
                raw[position : position + 1] = data.draw(st.sampled_from(OPERATIONS))
        if not raw:
            break
    holds_plain_data_or_is_refused(load_payload, bytes(raw))


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=60), st.sampled_from(PROTOCOLS))
def test_no_operations_do_more_than_raise_at_length(pieces, protocol):
    holds_plain_data_or_is_refused(load_payload, b"\x80" + bytes([protocol]) + b"".join(pieces) + b".")
