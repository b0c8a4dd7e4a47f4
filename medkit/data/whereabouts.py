"""Where many images really are: a million paths are looked up folder by folder, not one by one."""

from __future__ import annotations

import os
import stat
from typing import Any

import numpy as np

from medkit.data.files import place, system

MANY = 32  # with at least so many names in one folder, the folder is listed


def below(root: str, cells: Any) -> Any:
    """Relative paths joined to ``root``, absolute ones as they are."""
    import pyarrow
    import pyarrow.compute as compute

    start, slash = (pyarrow.scalar(text, cells.type) for text in (root.rstrip("/"), "/"))
    return compute.if_else(
        compute.starts_with(cells, "/"), cells, compute.binary_join_element_wise(start, cells, slash)
    )


def distinct(names: Any) -> bool:
    """Whether no two names are equal; nulls count as different."""
    import pyarrow.compute as compute

    return compute.count_distinct(names).as_py() + names.null_count == len(names)


def whereabouts(names: Any) -> tuple[np.ndarray, Any]:
    """Which of the named files and folders exist, and where they really are.

    Parameters
    ----------
    names:
        (n,) Arrow array of paths, each with a slash, null for none; also ``FOLDER#SERIES_UID``.

    Returns
    -------
    numpy.ndarray, pyarrow.Array or None
        (n,) booleans, true for null; (n,) paths with links and ``..`` resolved, which are equal for two names of one
        image, or None if different names are always different images.
    """
    import pyarrow
    import pyarrow.compute as compute

    pieces = compute.split_pattern(compute.utf8_rtrim(names, "/"), "/", max_splits=1, reverse=True)
    parents, own = (compute.list_element(pieces, i) for i in (0, 1))
    folders = parents.dictionary_encode()
    del pieces, parents  # they are as large as the names
    codes = folders.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(folders.dictionary) + 1))
    there = codes < 0
    known: dict[str, str] = {}
    elsewhere: dict[int, str] = {}  # rows whose name is a link, or one series of a folder
    real = [_real(system(folder or "/"), known) for folder in folders.dictionary.to_pylist()]
    for folder, start, end in zip(real, edges, edges[1:], strict=False):
        rows = order[start:end]
        if len(rows) >= MANY:
            found, links = _listing(folder)
            there[rows] = compute.is_in(own.take(rows), _texts(found, own.type)).to_numpy(zero_copy_only=False)
            if links:
                linked = compute.is_in(own.take(rows), _texts(links, own.type)).to_numpy(zero_copy_only=False)
                elsewhere |= {
                    int(row): os.path.realpath(f"{folder}/{system(str(own[int(row)]))}") for row in rows[linked]
                }
        else:
            for row in rows.tolist():
                name = system(own[row].as_py())
                there[row], link = _look(f"{folder}/{name}")
                if link or name in (".", ".."):
                    elsewhere[row] = os.path.realpath(f"{folder}/{name}")
    for row in np.flatnonzero(~there).tolist():
        path, uid = place(system(names[row].as_py()))
        if uid:
            there[row] = True
            elsewhere[row] = f"{_real(str(path), known)}#{uid}"
        elif own[row].as_py() in (".", "..") and path.exists():  # listings leave them out
            there[row], elsewhere[row] = True, os.path.realpath(path)
    slashes = compute.any(compute.ends_with(names, "/")).as_py()
    if not elsewhere and not slashes and len(set(real)) == len(real):
        return there, None
    places = compute.binary_join_element_wise(
        _texts(real, own.type).take(folders.indices), own, pyarrow.scalar("/", own.type)
    )
    if elsewhere:
        mask = np.zeros(len(codes), bool)
        mask[list(elsewhere)] = True
        places = compute.replace_with_mask(
            places, pyarrow.array(mask), _texts([elsewhere[row] for row in sorted(elsewhere)], own.type)
        )
    return there, places


def _texts(names: list[str], kind: Any) -> Any:
    """File names as text; a name that is not UTF-8 cannot be in a manifest, so it may be mangled."""
    import pyarrow

    try:
        return pyarrow.array(names, kind)
    except UnicodeEncodeError:
        return pyarrow.array([os.fsencode(name).decode("utf-8", "replace") for name in names], kind)


def _real(folder: str, known: dict[str, str]) -> str:
    """``os.path.realpath`` that looks up every folder on the way only once."""
    found = known.get(folder)
    if found is None:
        head, tail = os.path.split(folder)
        if not head or not tail or tail in (".", ".."):
            found = os.path.realpath(folder)
        else:
            found = os.path.join(_real(head, known), tail)
            if os.path.islink(found):
                found = os.path.realpath(found)
        known[folder] = found
    return found


def _listing(folder: str) -> tuple[list[str], list[str]]:
    """Names in a folder, without broken links, and those of them that are links."""
    names, links = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_symlink():
                    names.append(entry.name)
                elif os.path.exists(entry.path):
                    links.append(entry.name)
    except (OSError, ValueError):
        return [], []
    return [*names, *links], links


def _look(path: str) -> tuple[bool, bool]:
    """Whether a file or folder exists, and whether it is a link."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return False, False
    return (os.path.exists(path), True) if stat.S_ISLNK(mode) else (True, False)
