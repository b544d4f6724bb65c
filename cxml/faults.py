"""Faults of a YAML file, said in the file's own terms: line, key, what is wrong, the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from cxml.errors import ConfigError, nearest


def fault(what: str, *at: str | int) -> PydanticCustomError:
    """Make an error, to be raised by a validator, about the key ``at``, counted from the part being checked.

    Examples
    --------
    >>> fault("is unheard of", "sources", 0, "columns").message()
    'is unheard of'
    """
    return PydanticCustomError("fault", "{what}", {"what": what, "at": at})


def read_yaml(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    """Read YAML text that may not write a key twice.

    Parameters
    ----------
    text : str
    name : str
        What to call the text in messages.

    Returns
    -------
    content : object
        Plain Python values; ``no``, ``off`` and ``2024-01-31`` stay text, as YAML 1.2 has it.
    tree : yaml.Node or None
        The same with line numbers, for `describe_faults`.

    Raises
    ------
    ConfigError
        Naming every line that is no YAML or repeats a key.

    Examples
    --------
    >>> read_yaml("regions: [no, se]", "here")[0]
    {'regions': ['no', 'se']}
    """
    try:
        tree = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{name}{where}: not valid YAML: {what}") from error
    repeated = [f"{name}, line {line}: {key}: written twice; keep one" for key, line in _repeated_keys(tree)]
    if repeated:
        raise ConfigError("\n".join(repeated))
    return content, tree


def _repeated_keys(node: yaml.Node | None, path: str = "", above: tuple[int, ...] = ()) -> Iterator[tuple[str, int]]:
    """Yield what is written twice in one mapping; ``above`` are the nodes on the way, since aliases can lead back."""
    if id(node) in above:
        return
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield path + key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated_keys(value, f"{path}{key.value}.", above)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _repeated_keys(item, f"{path}{i}.", above)


class _Loader(yaml.SafeLoader):
    """YAML as people mean it (and version 1.2 says): no, off and 2024-01-31 are text, only true and false are not."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name and shape that PyYAML looks for
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("bool", "timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:[Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF"))


def describe_faults(
    error: ValidationError, part: type[BaseModel], name: str, tree: yaml.Node | None = None
) -> Iterator[str]:
    """Say where each fault is and what is wrong there.

    Parameters
    ----------
    error : ValidationError
        What pydantic found.
    part : type
        The model that was checked; its keys are the known ones.
    name : str
        What to call the file or the values.
    tree : yaml.Node, optional
        Where the values were written; without it no line is named.

    Yields
    ------
    str
        One line a fault; passwords of URLs are hidden.
    """
    for found in error.errors():
        location = (*found["loc"], *found.get("ctx", {}).get("at", ()))
        key = ".".join(str(step) for step in location)
        line, node = (None, None) if tree is None else _find(tree, location)
        what = hide_secrets(_what(found, _keys_at(part, location), _keys_at(part, location[:-1]), node))
        place = name if line is None else f"{name}, line {line}:"
        yield f"{place} {key}: {what}" if key else f"{place.removesuffix(':')}: {what}"


# what pydantic's messages say in terms of Python, said in terms of YAML
_SHAPES = {
    "dict_type": "must be a mapping, such as {name: value}",
    "list_type": "must be a list, such as [a, b]",
    "tuple_type": "must be a list, such as [0, 10]",
    "string_pattern_mismatch": "may hold only letters, digits, '.', '_' and '-', and begins with one of the first two",
}


def _what(found: Any, keys: list[str], siblings: list[str], node: yaml.Node | None) -> str:
    kind, given = found["type"], found["input"]
    if kind == "extra_forbidden":
        return "unknown key" + nearest(found["loc"][-1], siblings)
    if kind == "missing":
        return "missing; this " + ("key" if isinstance(found["loc"][-1], str) else "value") + " is required"
    if kind in ("fault", "value_error"):
        return str(found["msg"]).removeprefix("Value error, ")
    if given is None:
        return "is empty; write a value, or take it out"
    if kind == "literal_error":
        allowed = re.findall("'([^']*)'", found["ctx"]["expected"])
        allowed += [word.lower() for word in re.findall("True|False", found["ctx"]["expected"])]  # as YAML writes them
        return f"cannot be {given!r}" + nearest(given, allowed)
    if kind == "model_type":
        what = "must be a mapping of keys, such as " + ", ".join(keys[:3])
    else:
        what = _SHAPES.get(kind, found["msg"])
    if kind == "string_type":
        written = node.value if isinstance(node, yaml.ScalarNode) else given
        what = f'must be text; if it is, put it in quotes: "{written}"' if isinstance(written, str) else "must be text"
    return what if isinstance(given, dict | list) else f"{what} (got {given!r})"


def _keys_at(part: Any, location: tuple[int | str, ...]) -> list[str]:
    """Keys of the part of the tree that ``location`` leads to from ``part``."""
    for step in location:
        if isinstance(step, int):
            continue
        field = part.model_fields.get(step) if _is_part(part) else None
        if field is None:
            return []
        part = next(_parts_in(field.annotation), None)
    return list(part.model_fields) if _is_part(part) else []


def _is_part(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def _parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if _is_part(annotation):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _parts_in(inner)


def _find(node: yaml.Node, location: tuple[int | str, ...]) -> tuple[int, yaml.Node | None]:
    """Line of the key that ``location`` leads to, or of the last step that is there; and its value, if it is there."""
    line = node.start_mark.line + 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                return line, None
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line, None
    return line, node


#: ``${NAME}`` or ``${NAME:-default}``.
VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")
_SECRET = re.compile(r"(://[^\s/:@]*:)(\S+)(?=@)|([?&]\w*(?:password|token)=)([^\s&]+)")


def hide_secrets(text: str) -> str:
    """Replace the passwords of URLs by ``***``; those taken from the environment show their variable's name.

    Examples
    --------
    >>> hide_secrets("postgresql://ann:s3cret@host/crm"), hide_secrets("postgresql://ann:${PASSWORD}@host/crm")
    ('postgresql://ann:***@host/crm', 'postgresql://ann:${PASSWORD}@host/crm')
    """

    def hidden(match: re.Match[str]) -> str:
        before, secret = (match[1], match[2]) if match[1] else (match[3], match[4])
        variable = VARIABLE.fullmatch(secret)
        return match[0] if variable and variable[2] is None else f"{before}***"

    return _SECRET.sub(hidden, text)
