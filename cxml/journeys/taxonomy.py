"""What the config's words mean for the touchpoints that really occur."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cxml.errors import nearest


def touchpoints_in_no_stage(stages: Mapping[str, Sequence[str]], touchpoints: Collection[str]) -> tuple[str, ...]:
    """Touchpoints that occur and that no stage names; empty when there are no stages.

    Examples
    --------
    >>> touchpoints_in_no_stage({"support": ["call"]}, ["call", "play"])
    ('play',)
    """
    if not stages:
        return ()
    named = {touchpoint for listed in stages.values() for touchpoint in listed}
    return tuple(sorted(set(touchpoints) - named))


def words_that_never_occur(words: Mapping[str, Sequence[str]], touchpoints: Collection[str]) -> dict[str, str]:
    """Words of the config that are no touchpoint of the log.

    Parameters
    ----------
    words : mapping of str to sequence of str
        Where in the config -> the touchpoints named there.
    touchpoints : collection of str
        Those that occur.

    Returns
    -------
    dict of str to str
        ``"where: word"`` -> the nearest touchpoint, or what there is, as a clause.

    Examples
    --------
    >>> words_that_never_occur({"contacts": ["cal", "chat"]}, ["call", "chat"])
    {'contacts: cal': "; did you mean 'call'?"}
    """
    known = set(touchpoints)
    return {
        f"{where}: {word}": nearest(word, known)
        for where, listed in words.items()
        for word in listed
        if word not in known
    }
