"""The in-process scorer and the batch job: thin callers of one kernel; they see model folders only."""

from __future__ import annotations

import os


def pack(folder: str | os.PathLike[str]) -> bytes:
    """Pack a model folder into bytes that `cxml.load` takes, for stores of blobs; see `cxml.models.store.pack_model`.

    Parameters
    ----------
    folder : path

    Returns
    -------
    bytes
        A zip archive, the same for the same model.

    Raises
    ------
    ConfigError, DataError
        If the folder is no whole model.

    Examples
    --------
    >>> import cxml
    >>> packed = pack("models/telecom_demo")
    >>> cxml.load(packed).model.version == cxml.load("models/telecom_demo").model.version
    True
    """
    from cxml.models.store import pack_model

    return pack_model(folder)
