"""Masks of a folder joined to the images of a tree: by their path in it if they have the same, otherwise by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from medkit.data.tree_files import identity
from medkit.errors import InputError

ENDINGS = (".nii", ".nii.gz", ".png")
WAY_OUT = "put masks into the same subfolders as their images, or give each a name of its own"


@dataclass(frozen=True)
class Masks:
    """The masks below a folder.

    Attributes
    ----------
    by_name:
        Files by the name that a mask shares with its image.
    by_place:
        The file by its subfolder and this name.
    """

    folder: Path
    by_name: Mapping[str, Sequence[Path]]
    by_place: Mapping[tuple[str, str], Path]

    @classmethod
    def below(cls, folder: Path) -> Masks:
        """The masks below a folder.

        Raises
        ------
        InputError
            if there is none, or two in one subfolder have the same name.
        """
        if not folder.is_dir():
            raise InputError("there is no such folder", str(folder), "check the path after --masks")
        named: dict[str, list[Path]] = {}
        placed: dict[tuple[str, str], Path] = {}
        for path in sorted(folder.rglob("[!.]*")):
            if not path.name.lower().endswith(ENDINGS):
                continue
            name = identity(path.name)
            place = path.parent.relative_to(folder).as_posix(), name
            if place in placed:
                raise InputError(f"two masks are named '{name}'", str(path), f"the other is {placed[place]}")
            placed[place] = path.resolve()
            named.setdefault(name, []).append(placed[place])
        if not placed:
            raise InputError("there is no mask here", str(folder), "masks are NIfTI or PNG files named like the images")
        return cls(folder, named, placed)

    def of(self, rows: Sequence[Mapping[str, Any]], keys: Sequence[Mapping[str, str]]) -> list[Path | None]:
        """The mask of each image, None where no mask has its name.

        Parameters
        ----------
        rows, keys:
            The images, and what they may be identified by, as :class:`medkit.data.tree_table.Gathered` has them.

        Raises
        ------
        InputError
            if several masks have an image's name and none its path, or one mask that of images of two patients.
        """
        found = [self._at(key) for key in keys]
        taken = set(filter(None, found))
        users: dict[Path, int] = {}
        for number, key in enumerate(keys):
            if found[number] is not None:
                continue
            mask = self._named(key, taken)
            if mask is None:
                continue
            other = users.setdefault(mask, number)
            if rows[other]["patient"] != rows[number]["patient"]:
                what = f"this mask has the name of two images: '{keys[other]['path']}' and '{key['path']}'"
                raise InputError(what, str(mask), WAY_OUT)
            found[number] = mask
        return found

    def _at(self, key: Mapping[str, str]) -> Path | None:
        """The mask in the same place as an image."""
        place = PurePosixPath(key["path"])
        if "id" not in key and place.parent.name == key["name"]:  # a series, whose name is that of its folder
            place = place.parent
        places = [(place.parent.as_posix(), name) for name in (key.get("id"), key["name"]) if name]
        return next((self.by_place[one] for one in places if one in self.by_place), None)

    def _named(self, key: Mapping[str, str], taken: set[Path]) -> Path | None:
        """The mask of an image's name that is in no other image's place."""
        for name in (key.get("id"), key["name"], key["patient"], key["case"]):
            free = [path for path in self.by_name.get(name or "", ()) if path not in taken]
            if len(free) > 1:
                what = f"two masks are named '{name}', like the image '{key['path']}'"
                raise InputError(what, str(free[0]), f"the other is {free[1]}; {WAY_OUT}")
            if free:
                return free[0]
        return None
