"""How numpy's arrays, dtypes and scalars are pickled, and their making from the checked parts.

numpy 1 and 2 write an array as a call of ``_reconstruct`` whose result is then filled with dtype, shape and
bytes, or (protocol 5) as a call of ``_frombuffer``. Here these names are inert marks, and the parts are made
into an array only if they fit together; nothing of numpy's is called with what a payload says.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.storage.layout import PayloadError


class Name:
    """One of numpy's names, inert."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class UnfinishedDtype:
    """A dtype whose byte order comes later.

    Attributes:
        dtype: the finished dtype.
    """

    __slots__ = ("code", "dtype")

    def __init__(self, code: str) -> None:
        self.code = code
        self.dtype: np.dtype[Any] | None = None


class UnfinishedArray:
    """An array whose dtype, shape and bytes come later.

    Attributes:
        number: of the memo's entry that it gets where it gets one: pickles number in the order of writing.
    """

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = -1


ARRAY_TYPE = Name("numpy.ndarray")
DTYPE = Name("numpy.dtype")
RECONSTRUCT = Name("numpy._core.multiarray._reconstruct")
SCALAR = Name("numpy._core.multiarray.scalar")
FROM_BUFFER = Name("numpy._core.numeric._frombuffer")

NAMES = {
    **{name.text: name for name in (ARRAY_TYPE, DTYPE, RECONSTRUCT, SCALAR, FROM_BUFFER)},
    **{name.text.replace("_core", "core"): name for name in (RECONSTRUCT, SCALAR, FROM_BUFFER)},  # numpy 1
}
"""Module and name to mark: all that a payload may name."""

_BYTE_CODES = ("b1", "i1", "u1")
_DTYPES = {
    **{(code, "|"): np.dtype(code) for code in _BYTE_CODES},
    **{
        (code, order): np.dtype(order + code)
        for code in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")
        for order in "<>="
    },
}
"""Code and byte order to dtype: all that an array may hold."""

_MAX_DIMENSIONS = 32
_MAX_LENGTH = 2**31
"""What is longer in one dimension is no part of a chunk, and may be empty for all its length."""


def find(module: str, name: str) -> Name:
    """The mark for a name.

    Raises:
        PayloadError: it is none of numpy's.
    """
    known = NAMES.get(f"{module}.{name}")
    if known is None:
        raise PayloadError(f"it names {f'{module}.{name}'[:100]!r}, which is code and no data; it is refused")
    return known


def call(name: object, arguments: object) -> object:
    """What the call of a mark stands for.

    Raises:
        PayloadError: numpy does not call it like this.
    """
    if not isinstance(name, Name):
        raise PayloadError("it calls a value; it is refused")
    match arguments:
        case (kind, (0,), b"b") if name is RECONSTRUCT and kind is ARRAY_TYPE:
            return UnfinishedArray()
        case (str() as code, _, _) if name is DTYPE:
            return UnfinishedDtype(code)
        case (UnfinishedDtype() as dtype, bytes() as content) if name is SCALAR:
            return make_array(dtype, (), content, "C")[()]
        case (bytes() | bytearray() as content, UnfinishedDtype() as dtype, shape, "C" | "F" as order) if (
            name is FROM_BUFFER
        ):
            return make_array(dtype, shape, content, order)
    raise PayloadError(f"it calls {name.text} as numpy does not; it is refused")


def finish(target: object, state: object) -> object:
    """The dtype or array that ``target`` becomes.

    Raises:
        PayloadError: numpy does not write such a state, or the parts do not fit together.
    """
    match target, state:
        case UnfinishedDtype(code=code), (3 | 4, str() as order, None, None, None, -1, -1, 0):
            target.dtype = _DTYPES.get((code, order))
            if target.dtype is None:
                raise PayloadError(f"an array of dtype {f'{order}{code}'[:20]!r}; expected bools, integers or floats")
            return target
        case UnfinishedArray(), (1, shape, UnfinishedDtype() as dtype, bool() | int() as fortran, bytes() as content):
            return make_array(dtype, shape, content, "F" if fortran else "C")
    raise PayloadError("it sets the state of a value as numpy does not; it is refused")


def make_array(dtype: UnfinishedDtype, shape: object, content: bytes | bytearray, order: Any) -> NDArray[Any]:
    """An array of checked parts, read-only, in native byte order.

    Raises:
        PayloadError: the bytes are not those of an array of this dtype and shape.
    """
    if dtype.dtype is None:
        raise PayloadError("an array of a dtype without a byte order")
    if (
        type(shape) is not tuple
        or len(shape) > _MAX_DIMENSIONS
        or any(type(n) is not int or not 0 <= n < _MAX_LENGTH for n in shape)
    ):
        raise PayloadError("an array whose shape is none")
    if math.prod(shape) * dtype.dtype.itemsize != len(content):
        raise PayloadError(
            f"an array of {len(content)} bytes; its shape {shape} and dtype {dtype.dtype} ask for "
            f"{math.prod(shape) * dtype.dtype.itemsize}"
        )
    array: NDArray[Any] = np.ndarray(shape, dtype.dtype, content, order=order)
    if dtype.code == "b1":
        # Bytes other than 0 and 1 are no bools, and numpy takes them for granted.
        array = np.asarray(array.view(np.uint8) != 0)
    elif not dtype.dtype.isnative:
        array = array.astype(dtype.dtype.newbyteorder("="))
    array.flags.writeable = False
    return array
