"""Published weights of 3-D encoders, converted to files that recipes take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from medkit.data.whole import whole_file
from medkit.errors import InputError, did_you_mean
from medkit.parts.published_volumes import PUBLISHED, encoder_of, read_checkpoint


def convert_weights(path: str | Path, of: str, output: str | Path, prefix: str | None = None) -> dict[str, Any]:
    """Write the encoder in a file of ``torch.save`` as safetensors; returns what became of it.

    Nothing in the file is run, nothing is downloaded. ``block`` is what a recipe says to use the encoder, ``unknown``
    has those of its arguments that the file does not reveal.

    Parameters
    ----------
    path:
        The published file.
    of:
        Whose weights they are, a key of :data:`medkit.parts.published_volumes.PUBLISHED`.
    output:
        A new file ending in ``.safetensors``.
    prefix:
        What comes before the encoder's names in the file; default: found.

    Raises
    ------
    InputError
        if the file cannot be read or holds no such encoder, or some of its tensors are missing; nothing is written.
    """
    path, output = Path(path), Path(output)
    if of not in PUBLISHED:
        hint = did_you_mean(of, PUBLISHED) or f"known: {', '.join(PUBLISHED)}"
        raise InputError(f"no published weights are named '{of}'", "--of", hint)
    if output.suffix != ".safetensors":
        raise InputError("weights are written as safetensors", str(output), "name a file ending in .safetensors")
    published = PUBLISHED[of]
    with whole_file(output) as temporary:
        tensors = read_checkpoint(path)
        arguments, found, before = encoder_of(tensors, published, path, prefix)
        # Tensors of a checkpoint may share memory, which such a file cannot say.
        save_file({name: t.detach().clone().contiguous() for name, t in found.items()}, temporary, {"format": "pt"})
    block = {"use": published.encoder, **arguments, "weights": str(output)}
    about: dict[str, Any] = {"what": published.what, "prefix": before}
    about |= {"tensors": len(found), "left_out": len(tensors) - len(found)}
    return {**about, "block": block, "unknown": list(published.unknown)}
