"""The pickle format, read as a data format.

A pickle is a program for a stack machine. This machine has the operations by which plain data and numpy's
arrays are written, and no others: none imports, calls, or sets an attribute; the two that would
(``REDUCE``, ``BUILD``) know numpy's marks only (:mod:`~mscore_plugin_minestudio.storage.pickled_arrays`). Persistent
ids, extension codes, and out-of-band buffers do not exist here.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable
from typing import Any

from mscore_plugin_minestudio.storage import pickled_arrays
from mscore_plugin_minestudio.storage.layout import PayloadError

MAX_OPERATIONS = 2_000_000
"""A payload that takes more operations to read is refused: it bounds the memory and the time that one takes."""

PROTOCOLS = (3, 4, 5)

_BINGET, _MEMOIZE = pickle.BINGET[0], pickle.MEMOIZE[0]
_BININT1, _BINFLOAT = pickle.BININT1[0], pickle.BINFLOAT[0]

_read_float = struct.Struct(">d").unpack_from

_KEY_TYPES = frozenset({str, int, float, bool, type(None)})


class PickleReader:
    """Reads one pickle.

    Args:
        raw: the pickle.

    Attributes:
        position: bytes read so far, or up to some operations ago.
        stack: values, and numpy's marks.
        marks: heights of the stack at which sequences begin.
        memo: values that may come again, by number. A dict: its keys are a payload's to choose.
        places: where in ``raw`` the bytes with this identity begin.
    """

    __slots__ = ("marks", "memo", "places", "position", "raw", "stack")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.places: dict[int, int] = {}

    def read(self) -> object:
        """The value, which may still hold marks and bytes.

        Raises:
            PayloadError: an operation that data does not need, or too many of them.
            LookupError, ValueError, struct.error: the pickle is malformed.
        """
        raw = self.raw
        if raw[:1] != pickle.PROTO or raw[1] not in PROTOCOLS:
            raise PayloadError(f"no pickle of protocol {PROTOCOLS[0]} to {PROTOCOLS[-1]}")
        position = 2
        stack, memo, operations = self.stack, self.memo, _OPERATIONS
        push = stack.append
        for _ in range(MAX_OPERATIONS):
            code = raw[position]
            # Three of four operations are one of these four, so these are spared the call.
            if code == _BINGET:
                push(memo[raw[position + 1]])
                position += 2
            elif code == _MEMOIZE:
                memo[len(memo)] = stack[-1]
                position += 1
            elif code == _BININT1:
                push(raw[position + 1])
                position += 2
            elif code == _BINFLOAT:
                push(_read_float(raw, position + 1)[0])
                position += 9
            else:
                self.position = position + 1
                operation = operations[code]
                if operation is None:
                    return self._end(code)
                operation(self)
                position = self.position
        raise PayloadError(f"it takes more than {MAX_OPERATIONS} operations to read")

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        start = self.position
        if start + size > len(self.raw):
            raise ValueError("it ends too early")
        self.position = start + size
        return self.raw[start : self.position]

    def number(self, size: int) -> int:
        """The unsigned number in the next ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        """The text up to the end of the line."""
        start = self.position
        self.position = self.raw.index(b"\n", start) + 1
        return self.raw[start : self.position - 1].decode()

    def sequence(self) -> list[Any]:
        """The values since the last mark, taken from the stack."""
        mark = self.marks.pop()
        if mark > len(self.stack):
            raise ValueError("a mark without its values")
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def _end(self, code: int) -> object:
        if code != pickle.STOP[0]:
            known = {operation.code: operation.name for operation in pickletools.opcodes}
            name = f"operation {known[chr(code)]}" if chr(code) in known else f"byte {code:#04x}"
            raise PayloadError(f"the {name} at {self.position - 1} is none that data needs; it is refused")
        if len(self.stack) != 1 or self.position != len(self.raw):
            raise ValueError("it ends too early or too late")
        return self.stack[0]


def _frame(reader: PickleReader) -> None:
    reader.take(8)


def _mark(reader: PickleReader) -> None:
    reader.marks.append(len(reader.stack))


def _push(make: Callable[[PickleReader], Any]) -> Callable[[PickleReader], None]:
    def operation(reader: PickleReader) -> None:
        reader.stack.append(make(reader))

    return operation


def _constant(value: object) -> Callable[[PickleReader], None]:
    def operation(reader: PickleReader) -> None:
        reader.stack.append(value)

    return operation


def _new_list(reader: PickleReader) -> None:
    reader.stack.append([])


def _new_dict(reader: PickleReader) -> None:
    reader.stack.append({})


def _text(size: int) -> Callable[[PickleReader], None]:
    def operation(reader: PickleReader) -> None:
        reader.stack.append(reader.take(reader.number(size)).decode())

    return operation


def _bytes(size: int) -> Callable[[PickleReader], None]:
    def operation(reader: PickleReader) -> None:
        length = reader.number(size)
        start = reader.position
        content = reader.take(length)
        reader.places[id(content)] = start
        reader.stack.append(content)

    return operation


def _long(reader: PickleReader) -> int:
    size = reader.number(1)
    if size > 9:
        raise PayloadError(f"an integer of {size} bytes; expected one of 64 bits")
    return int.from_bytes(reader.take(size), "little", signed=True)


def _tuple(size: int) -> Callable[[PickleReader], None]:
    def operation(reader: PickleReader) -> None:
        stack = reader.stack
        if len(stack) < size:
            raise ValueError("a tuple without its values")
        stack[-size:] = (tuple(stack[-size:]),)

    return operation


def _append(reader: PickleReader) -> None:
    _extend_list(reader, [reader.stack.pop()])


def _appends(reader: PickleReader) -> None:
    _extend_list(reader, reader.sequence())


def _extend_list(reader: PickleReader, values: list[Any]) -> None:
    target = reader.stack[-1]
    if type(target) is not list:
        raise ValueError("items for what is no list")
    target.extend(values)


def _set_item(reader: PickleReader) -> None:
    value = reader.stack.pop()
    _fill_dict(reader, [reader.stack.pop(), value])


def _set_items(reader: PickleReader) -> None:
    _fill_dict(reader, reader.sequence())


def _fill_dict(reader: PickleReader, items: list[Any]) -> None:
    target = reader.stack[-1]
    if type(target) is not dict or len(items) % 2:
        raise ValueError("items for what is no dict")
    keys = items[::2]
    if not _KEY_TYPES.issuperset(map(type, keys)):
        # Tuples of tuples of … are hashed by a recursion that a deep one drives into a crash.
        parts = [part for key in keys for part in (key if type(key) is tuple else (key,))]
        if not _KEY_TYPES.issuperset(map(type, parts)):
            raise PayloadError("a dict's key that is neither text nor number nor a tuple of these")
    target.update(zip(keys, items[1::2], strict=True))


def _put(size: int) -> Callable[[PickleReader], None]:
    def operation(reader: PickleReader) -> None:
        reader.memo[reader.number(size)] = reader.stack[-1]

    return operation


def _global(reader: PickleReader) -> object:
    module = reader.line()
    return pickled_arrays.find(module, reader.line())


def _stack_global(reader: PickleReader) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    if type(module) is not str or type(name) is not str:
        raise ValueError("a name that is no text")
    reader.stack.append(pickled_arrays.find(module, name))


def _reduce(reader: PickleReader) -> None:
    arguments, name = reader.stack.pop(), reader.stack.pop()
    value = pickled_arrays.call(name, arguments)
    if type(value) is pickled_arrays.UnfinishedArray:
        value.number = len(reader.memo)
    reader.stack.append(value)


def _build(reader: PickleReader) -> None:
    state = reader.stack.pop()
    target: object = reader.stack[-1]
    reader.stack[-1] = finished = pickled_arrays.finish(target, state)
    number = target.number if type(target) is pickled_arrays.UnfinishedArray else None
    if number is not None and reader.memo.get(number) is target:
        reader.memo[number] = finished


_BY_CODE: dict[bytes, Callable[[PickleReader], None]] = {
    pickle.FRAME: _frame,
    pickle.MARK: _mark,
    pickle.NONE: _constant(None),
    pickle.NEWTRUE: _constant(True),
    pickle.NEWFALSE: _constant(False),
    pickle.BININT2: _push(lambda reader: reader.number(2)),
    pickle.BININT: _push(lambda reader: int.from_bytes(reader.take(4), "little", signed=True)),
    pickle.LONG1: _push(_long),
    pickle.SHORT_BINUNICODE: _text(1),
    pickle.BINUNICODE: _text(4),
    pickle.BINUNICODE8: _text(8),
    pickle.SHORT_BINBYTES: _bytes(1),
    pickle.BINBYTES: _bytes(4),
    pickle.BINBYTES8: _bytes(8),
    pickle.BYTEARRAY8: _bytes(8),
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.TUPLE: _push(lambda reader: tuple(reader.sequence())),
    pickle.EMPTY_LIST: _new_list,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.EMPTY_DICT: _new_dict,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: _set_items,
    pickle.BINPUT: _put(1),
    pickle.LONG_BINPUT: _put(4),
    pickle.LONG_BINGET: _push(lambda reader: reader.memo[reader.number(4)]),
    pickle.GLOBAL: _push(_global),
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: _reduce,
    pickle.BUILD: _build,
}
_OPERATIONS = [_BY_CODE.get(bytes([code])) for code in range(256)]
"""Operation by its code; None ends the reading, but for the four that ``read`` does itself."""
