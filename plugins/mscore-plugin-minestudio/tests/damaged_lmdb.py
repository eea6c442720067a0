"""Reads many damaged LMDB files, each in a process of its own, and prints how those processes ended.

Run by ``test_minestudio_lmdb.py``: ``damaged_lmdb.py FOLDER SEED COUNT FILE…``.
"""

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

from mscore_plugin_minestudio.storage.layout import DatasetError
from mscore_plugin_minestudio.storage.lmdb_reader import LmdbReader

PAGE = 4096
READ, REFUSED, FAILED = 0, 1, 2


def damage(content, random):
    """Cut the file, or change bytes of its tree."""
    if random.random() < 0.2:
        return content[: random.randrange(len(content))]
    changed = bytearray(content)
    tree = [page for page in range(len(content) // PAGE) if page < 2 or content[page * PAGE + 10] in (1, 2)]
    for _ in range(random.choice([1, 2, 5, 50])):
        # Most of what matters stands at the beginning of a page.
        offset = random.randrange(200 if random.random() < 0.6 else PAGE)
        changed[random.choice(tree) * PAGE + offset] = random.choice([0, 1, 255, random.randrange(256)])
    return bytes(changed)


def read_all(folder):
    try:
        reader = LmdbReader(folder)
        for key in [*reader.keys(), b"(0, 0)", b"zz"]:
            reader.get(key)
    except DatasetError:
        return REFUSED
    return READ


def main():
    folder, seed, count, *files = sys.argv[1:]
    folder, generator = Path(folder), random.Random(int(seed))
    contents = [Path(file).read_bytes() for file in files]
    ends = Counter()
    for _ in range(int(count)):
        (folder / "data.mdb").unlink(missing_ok=True)
        (folder / "data.mdb").write_bytes(damage(generator.choice(contents), generator))
        child = os.fork()
        if not child:
            end = FAILED
            try:
                end = read_all(folder)
            finally:
                os._exit(end)
        status = os.waitpid(child, 0)[1]
        ends[f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))] += 1
    print(json.dumps(ends))


main()
