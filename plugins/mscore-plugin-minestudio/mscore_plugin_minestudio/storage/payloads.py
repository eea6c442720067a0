"""Payloads: the pickled values of a dataset, read without running anything of theirs.

An unpickler does what a pickle says, and one that allows only certain names still calls them with whatever
arguments the pickle gives (numpy's, called cleverly, crash the process or worse). So no unpickler is used:
:class:`~mscore_plugin_minestudio.storage.pickle_reader.PickleReader` reads plain data and arrays, and cannot do more.
"""

import pickle
import struct
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.storage.layout import PayloadError as PayloadError
from mscore_plugin_minestudio.storage.pickle_reader import PickleReader

MAX_BYTES = 64 * 1024 * 1024
"""A longer payload is refused."""

MAX_VALUES = 2_000_000
"""A payload that unfolds to more values is refused: a few bytes can refer to one list a billion times."""

MAX_DEPTH = 32
"""Containers in containers, at most; a container in itself is deeper than any."""

_MAX_TEMPLATES = 64
"""Lengths of payloads whose template is kept."""

_PLAIN = frozenset(
    {str, int, float, bool, type(None), np.ndarray, np.bool_}
    | {np.dtype(code).type for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")}
)


def load_payload(raw: bytes) -> object:
    """The plain data in a pickle of protocol 3 to 5.

    Args:
        raw: the pickle.

    Returns:
        str, int (of 64 bits), float, bool, None, numpy arrays and scalars (bools, integers of 1 to 8 bytes,
        floats of 2 to 8), and tuples, lists and dicts of these; a dict's keys are text, numbers, None, or
        tuples of them. Arrays are read-only and in native byte order.

    Raises:
        PayloadError: the pickle holds anything else, is malformed, or too large.
    """
    return _read(PickleReader(raw))


def dump_payload(value: object) -> bytes:
    """A pickle of protocol 4, as MineStudio writes it, that :func:`load_payload` reads.

    Args:
        value: what :func:`load_payload` may return.

    Raises:
        PayloadError: it holds anything else.
    """
    try:
        raw = pickle.dumps(value, protocol=4)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError) as error:
        raise PayloadError(f"a value that is no plain data: {error}") from error
    load_payload(raw)
    return raw


class ArrayPayloads:
    """Reads payloads that are dicts of arrays, such as actions, fast where one is written as the other.

    Payloads of one writer differ in their arrays' bytes only. So where all bytes of a payload around its arrays
    are those of one that was read before, its arrays lie where that one's lay, and nothing more needs reading.
    """

    def __init__(self) -> None:
        self._templates: dict[int, _Template] = {}

    def load(self, raw: bytes) -> dict[str, NDArray[Any]]:
        """The arrays of a payload by their names; views of its bytes, which need not be aligned.

        Raises:
            PayloadError: it is something else than a dict of text to arrays, or what :func:`load_payload` refuses.
        """
        template = self._templates.get(len(raw))
        if template is not None and template.fits(raw):
            return template.load(raw)
        reader = PickleReader(raw)
        arrays = _read(reader)
        if type(arrays) is not dict:
            raise PayloadError(f"a {type(arrays).__name__}; expected a dict of arrays")
        for name, array in arrays.items():
            if type(name) is not str or type(array) is not np.ndarray:
                raise PayloadError(f"{name!r:.40} is a {type(array).__name__}; expected a name and an array")
        template = _template(reader, arrays)
        if template is not None:
            if len(self._templates) >= _MAX_TEMPLATES:
                self._templates.clear()
            self._templates[len(raw)] = template
        return arrays


class _Template:
    """Where the arrays of a payload lie, and what is around them.

    Args:
        raw: the payload.
        arrays: its arrays by name, each with the place of its first byte.
    """

    def __init__(self, raw: bytes, arrays: dict[str, tuple[NDArray[Any], int]]) -> None:
        self._arrays: list[tuple[str, tuple[int, ...], np.dtype[Any], int, Literal["C", "F"]]] = [
            (name, array.shape, array.dtype, start, "C" if array.flags.c_contiguous else "F")
            for name, (array, start) in arrays.items()
        ]
        inside = sorted({(start, start + array.nbytes) for array, start in arrays.values()})
        bounds = pairwise([(0, 0), *inside, (len(raw), len(raw))])
        self._around = [(end, start, raw[end:start]) for (_, end), (start, _) in bounds]

    def fits(self, raw: bytes) -> bool:
        """Whether a payload of the same length is the same around its arrays."""
        return all(raw[start:end] == content for start, end, content in self._around)

    def load(self, raw: bytes) -> dict[str, NDArray[Any]]:
        """The arrays of a payload that fits."""
        return {
            name: np.ndarray(shape, dtype, raw, start, order=order) for name, shape, dtype, start, order in self._arrays
        }


def _template(reader: PickleReader, arrays: dict[str, NDArray[Any]]) -> _Template | None:
    """The template of a payload; None where its arrays are no plain views of its bytes."""
    places: dict[str, tuple[NDArray[Any], int]] = {}
    for name, array in arrays.items():
        # Python has one object for all bytes of a length below 2: they are in no place of their own.
        start = None if array.nbytes < 2 else reader.places.get(id(array.base))
        if start is None:
            return None
        places[name] = array, start
    return _Template(reader.raw, places)


def _read(reader: PickleReader) -> object:
    if len(reader.raw) > MAX_BYTES:
        raise PayloadError(f"a payload of {len(reader.raw)} bytes; expected at most {MAX_BYTES}")
    try:
        value = reader.read()
    except (LookupError, ValueError, struct.error) as error:
        problem = error if isinstance(error, ValueError) else "it takes what is not there"
        raise PayloadError(f"malformed behind byte {reader.position} of {len(reader.raw)}: {problem}") from error
    _check_plain(value)
    return value


def _check_plain(value: object) -> None:
    """Refuse marks, bytes, and containers that unfold to more than data does."""
    level, seen = [value], 0
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                inner.extend(item.values())  # type: ignore[attr-defined]
            elif kind is list or kind is tuple:
                inner.extend(item)  # type: ignore[arg-type]
            elif kind not in _PLAIN:
                raise PayloadError(f"a value of type {kind.__name__}; expected plain data and arrays")
        if not inner:
            return
        seen += len(inner)
        if seen > MAX_VALUES:
            raise PayloadError(f"it unfolds to more than {MAX_VALUES} values")
        level = inner
    raise PayloadError(f"containers in containers, more than {MAX_DEPTH} deep")
