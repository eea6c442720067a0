"""A check of an LMDB file's structure, before liblmdb reads it.

liblmdb trusts what its pages say: a file that is cut off, downloaded in part or forged makes it read outside of
the file, which ends the process by a signal that Python cannot catch. :func:`check_pages` follows every reference
that liblmdb could follow, in the data format 1 of LMDB 0.9 (its ``mdb.c``), and refuses those that lead astray.
It reads the pages of the tree, a few of a hundred in a file of videos, and none of the values.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.storage.layout import DatasetError

_Content = NDArray[np.uint8]

_META = struct.Struct("<8x 2x H 4x I I Q 8x I H H 40x 4x H H 32x Q Q Q")
"""Of a meta page: its flags; magic, version, address; page size, flags and depth of the tree of free pages;
flags and depth of the main tree; its root; last page; transaction."""

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_META_PAGE, _BRANCH, _LEAF, _PAGE_KINDS = 0x08, 0x01, 0x02, 0x6F
_FIXED_ADDRESS = 0x01
_VALUE_ELSEWHERE = 0x01
_NO_ROOT = 2**64 - 1
_PAGE_SIZES = [2**power for power in range(9, 17)]
_PAGE_HEADER, _NODE_HEADER = 16, 8
_FIRST_PAGE = 2
_MAX_DEPTH = 32


class _Tree(NamedTuple):
    page_size: int
    root: int


class _Damage(Exception):
    pass


def check_pages(file: Path) -> None:
    """Refuse a file that liblmdb cannot read safely.

    Args:
        file: the path of ``data.mdb``.

    Raises:
        DatasetError: it is no LMDB file, or cut off, or a page refers to what is not there.
        OSError: it cannot be read.
    """
    try:
        if file.stat().st_size < _FIRST_PAGE * _PAGE_SIZES[0]:
            raise _Damage("it is no LMDB file, or cut off")
        content: _Content = np.memmap(file, np.uint8, mode="r")
        tree = _newest_tree(content)
        if tree.root != _NO_ROOT:
            _check_tree(content, tree)
    except _Damage as damage:
        raise DatasetError(f"{damage}; download or write it again", file=file) from None


def _newest_tree(content: _Content) -> _Tree:
    found = []
    start = 0
    for _ in range(_FIRST_PAGE):
        if start + _META.size > len(content):
            raise _Damage("it is cut off")
        flags, magic, version, address, page_size, environment_flags, _, tree_flags, _, root, _, transaction = (
            _META.unpack(content[start : start + _META.size].tobytes())
        )
        if not flags & _META_PAGE or (magic, version) != (_MAGIC, _VERSION):
            raise _Damage("it is no LMDB file of data format 1")
        if page_size not in _PAGE_SIZES or address or environment_flags & _FIXED_ADDRESS or tree_flags:
            raise _Damage("it is an LMDB file of another kind than MineStudio writes, or damaged")
        found.append((transaction, _Tree(page_size, root)))
        start += page_size
    (_, first), (_, second) = found
    if first.page_size != second.page_size:
        raise _Damage("its two meta pages differ in the size of a page")
    return second if found[1][0] > found[0][0] else first


def _check_tree(content: _Content, tree: _Tree) -> None:
    pages = len(content) // tree.page_size
    waiting, seen = [(tree.root, 1)], set()
    while waiting:
        number, depth = waiting.pop()
        if number >= pages:
            raise _Damage(f"it is cut off: page {number} is missing, it has {pages}")
        if number < _FIRST_PAGE or number in seen or depth > _MAX_DEPTH:
            raise _Damage(f"page {number} stands where it cannot")
        seen.add(number)
        page = content[number * tree.page_size :][: tree.page_size]
        children = _check_page(page, number, pages)
        waiting.extend((child, depth + 1) for child in children)


def _check_page(page: _Content, number: int, pages: int) -> list[int]:
    """Check one page of the tree; the pages that it leads to, where it is a branch."""
    kind = int(page[10:12].view("<u2")[0]) & _PAGE_KINDS
    lower, upper = (int(bound) for bound in page[12:16].view("<u2"))
    count = (lower - _PAGE_HEADER) // 2
    # liblmdb ends the process at a branch of one child.
    if kind not in (_BRANCH, _LEAF) or count < (2 if kind == _BRANCH else 1) or not lower <= upper <= len(page):
        raise _Damage(f"page {number} is damaged")
    starts = page[_PAGE_HEADER : _PAGE_HEADER + 2 * count].view("<u2").astype(np.int64)
    if starts.min() < lower or starts.max() + _NODE_HEADER > len(page):
        raise _Damage(f"page {number} is damaged")
    low, high, flags, key_size = _gather(page, starts, _NODE_HEADER).view("<u2").astype(np.int64).T
    ends = starts + _NODE_HEADER + key_size
    if kind == _BRANCH:
        if ends.max() > len(page):
            raise _Damage(f"page {number} is damaged")
        return (low | high << 16 | flags << 32).tolist()  # type: ignore[no-any-return]
    elsewhere = flags == _VALUE_ELSEWHERE
    sizes = low | high << 16
    if (flags & ~_VALUE_ELSEWHERE).any() or (ends + np.where(elsewhere, 8, sizes)).max() > len(page):
        raise _Damage(f"page {number} is damaged")
    if elsewhere.any():
        first = _gather(page, ends[elsewhere], 8).view("<u8").ravel()
        needed = -(-(_PAGE_HEADER + sizes[elsewhere]) // len(page))
        # Compared before they are added: a forged number near 2**64 would come out small.
        if (first < _FIRST_PAGE).any() or (first >= pages).any() or (first.astype(np.int64) + needed > pages).any():
            raise _Damage(f"it is cut off, or page {number} is damaged: it refers to a value beyond the end")
    return []


def _gather(page: _Content, starts: NDArray[np.int64], size: int) -> _Content:
    """The bytes from each start on, (starts, size)."""
    gathered: _Content = page[starts[:, None] + np.arange(size)]
    return gathered
