"""The project file: YAML to one typed tree, with messages that name the line and the mend."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from cxml.errors import ConfigError, nearest
from cxml.times import Duration, format_instant, parse_instant

#: Canonical journey columns in their fixed order, which is also the order that breaks ties in time.
CANONICAL_COLUMNS = (
    "customer_id", "timestamp", "sequence", "touchpoint", "channel", "value", "duration", "score",
    "case_id", "resolved", "available_at",
)  # fmt: skip
REQUIRED_COLUMNS = ("customer_id", "timestamp", "touchpoint")

DurationField = Annotated[
    Duration,
    BeforeValidator(Duration.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+[wdhms]$", "examples": ["30d", "12h"]}),
]
InstantField = Annotated[
    int,
    BeforeValidator(parse_instant),
    PlainSerializer(format_instant),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2024-01-01"]}),
]


class _Part(BaseModel):
    """A part of the tree: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SourceConfig(_Part):
    """Where rows come from: ``path``, or ``tables`` with ``query``, or ``url`` with ``table`` or ``query``."""

    path: str | None = Field(None, description="file, glob or folder; .parquet .csv .jsonl, plain, .gz or .zst")
    format: Literal["parquet", "csv", "jsonl"] | None = Field(
        None, description="only where the file name does not tell"
    )
    tables: dict[str, str] | None = Field(None, description="name -> file, for `query` to speak of")
    query: str | None = Field(None, description="SQL: DuckDB's over `tables`, PostgreSQL's over `url`")
    url: str | None = Field(None, description="postgresql://...; write ${NAME} to take a part from the environment")
    table: str | None = Field(None, description="table to read whole, with `url`")
    columns: dict[str, str] = Field(
        default_factory=dict, description="canonical name -> the source's own column name"
    )
    where: str | None = Field(None, description="SQL predicate over the source's own columns")
    timezone: str | None = Field(None, description="zone of stamps that carry none; overrides journeys.timezone")

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        kinds = [k for k in ("path", "tables", "url") if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(
                "a source has exactly one of 'path', 'tables', 'url'; " + (f"this has {kinds}" if kinds else "none")
            )
        if self.tables is not None and not self.query:
            raise ValueError("'tables' needs a 'query' over them")
        if self.url is not None and (self.table is None) == (self.query is None):
            raise ValueError("'url' needs either a 'table' or a 'query'")
        if self.path is not None and (self.query or self.table):
            raise ValueError("'path' reads the file as it is; to use a 'query' name the file under 'tables'")
        return self

    @property
    def label(self) -> str:
        """A short name for reports and messages; never shows a secret of a URL."""
        if self.path is not None:
            return self.path
        if self.tables is not None:
            return "query over " + ", ".join(self.tables)
        return f"postgresql table {self.table}" if self.table else "postgresql query"


def _path_means_source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


SourceField = Annotated[SourceConfig, BeforeValidator(_path_means_source)]


class JourneysConfig(_Part):
    """The event log: its sources, and what its words mean."""

    sources: list[SourceField] = Field(min_length=1, description="one or many; merged into one log")
    measures: list[str] = Field(default_factory=list, description="further numeric columns")
    attributes: list[str] = Field(
        default_factory=list, description="categorical columns; the last known value is a feature"
    )
    where: str | None = Field(None, description="SQL predicate over the source's own columns, on every source")
    timezone: str | None = Field(None, description="zone of stamps that carry none, e.g. UTC or Europe/Berlin")
    duplicates: Literal["keep", "drop_exact"] = Field("keep", description="what to do with fully equal rows")
    max_quarantined: float = Field(
        1.0, ge=0, le=1, description="refuse the data when a larger share of rows is bad (1: never)"
    )
    stages: dict[str, list[str]] = Field(default_factory=dict, description="lifecycle stage -> touchpoints")
    activity: list[str] = Field(default_factory=list, description="what counts as being active; default: all")
    contacts: list[str] = Field(default_factory=list, description="contacts with service")

    @model_validator(mode="after")
    def _names_fit(self) -> JourneysConfig:
        for name in (*self.measures, *self.attributes):
            if name in CANONICAL_COLUMNS:
                raise ValueError(f"'{name}' is a canonical column already; take it out of measures and attributes")
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise ValueError(
                    f"'{name}' cannot name a measure or attribute: use letters, digits and _, "
                    "and map the source's own name under columns"
                )
        both = set(self.measures) & set(self.attributes)
        if both:
            raise ValueError(f"'{min(both)}' is both a measure and an attribute")
        known = (*CANONICAL_COLUMNS, *self.measures, *self.attributes)
        for source in self.sources:
            for name in source.columns:
                if name not in known:
                    raise ValueError(f"columns: unknown canonical name '{name}'{nearest(name, known)}")
        seen: dict[str, str] = {}
        for stage, touchpoints in self.stages.items():
            for touchpoint in touchpoints:
                if seen.setdefault(touchpoint, stage) != stage:
                    raise ValueError(f"touchpoint '{touchpoint}' is in two stages, '{seen[touchpoint]}' and '{stage}'")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """All canonical names a source of this log may have, in their fixed order."""
        return (*CANONICAL_COLUMNS, *self.measures, *self.attributes)


class CustomersConfig(_Part):
    """What is known of customers beside their events, as of a date where the table has one."""

    source: SourceField
    columns: dict[str, str] = Field(default_factory=dict, description="customer_id, valid_from, attributes")
    attributes: list[str] = Field(min_length=1, description="categories; each becomes a feature")
    timezone: str | None = Field(None, description="zone of valid_from stamps that carry none")

    @model_validator(mode="after")
    def _names_fit(self) -> CustomersConfig:
        known = ("customer_id", "valid_from", *self.attributes)
        for name in (*self.columns, *self.source.columns):
            if name not in known:
                raise ValueError(f"columns: unknown name '{name}'{nearest(name, known)}")
        return self


class SnapshotsConfig(_Part):
    """When to look, and at whom."""

    every: DurationField = Field(Duration.parse("30d"), description="distance of cutoffs")
    lookback: DurationField = Field(
        Duration.parse("180d"), description="a customer is looked at when seen this recently"
    )
    start: InstantField | None = Field(None, description="first cutoff; default: when the log can bear it")
    end: InstantField | None = Field(None, description="no cutoff after this; default: the end of the log")
    calibration_start: InstantField | None = Field(None, description="first cutoff kept from the trees")
    test_start: InstantField | None = Field(None, description="first cutoff of the test")

    @model_validator(mode="after")
    def _in_order(self) -> SnapshotsConfig:
        marks = [
            (name, value)
            for name in ("start", "calibration_start", "test_start", "end")
            if (value := getattr(self, name)) is not None
        ]
        for (a, x), (b, y) in zip(marks, marks[1:], strict=False):
            if x > y:
                raise ValueError(f"'{a}' ({format_instant(x)}) is after '{b}' ({format_instant(y)})")
        return self


class FeaturesConfig(_Part):
    """Which features; the defaults come from the log."""

    windows: list[DurationField] = Field(
        default_factory=lambda: [Duration.parse(w) for w in ("7d", "30d", "90d", "365d")],
        min_length=1,
        description="how far back the statistics look",
    )
    max_values: int = Field(
        40, ge=1, le=1000, description="at most so many touchpoints and channels get columns of their own, by frequency"
    )

    @field_validator("windows")
    @classmethod
    def _ascending(cls, windows: list[Duration]) -> list[Duration]:
        return sorted(set(windows))


class ChurnConfig(_Part):
    """What leaving means.

    ``event``: one of ``touchpoints`` happens. ``inactivity``: no activity for the whole horizon.
    ``table``: a table says who left and when.
    """

    kind: Literal["event", "inactivity", "table"]
    touchpoints: list[str] = Field(default_factory=list, description="kind event: these are the leaving")
    source: SourceField | None = Field(None, description="kind table: rows of who left and when")
    columns: dict[str, str] = Field(default_factory=dict, description="kind table: customer_id, timestamp")
    starts: list[str] = Field(
        default_factory=list, description="at risk only once one of these happened; default: from the first event"
    )
    ends: list[str] = Field(
        default_factory=list, description="the journey ends here without churn (sold, declined, course finished)"
    )
    horizons: list[DurationField] = Field(
        default_factory=lambda: [Duration.parse(h) for h in ("30d", "60d", "90d")], min_length=1
    )

    @field_validator("horizons")
    @classmethod
    def _ascending(cls, horizons: list[Duration]) -> list[Duration]:
        return sorted(set(horizons))

    @model_validator(mode="after")
    def _kind_fits(self) -> ChurnConfig:
        if (self.kind == "event") != bool(self.touchpoints):
            raise ValueError("'touchpoints' go with kind 'event', and kind 'event' needs them")
        if (self.kind == "table") != (self.source is not None):
            raise ValueError("'source' goes with kind 'table', and kind 'table' needs it")
        for name in self.columns:
            if name not in ("customer_id", "timestamp"):
                raise ValueError(f"columns: unknown name '{name}'{nearest(name, ('customer_id', 'timestamp'))}")
        return self


_SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}


class SatisfactionConfig(_Part):
    """Which survey, on which scale."""

    kind: Literal["nps", "csat", "ces", "custom"]
    touchpoint: str = Field(description="rows of this touchpoint carry the answer in `score`")
    asked: str | None = Field(None, description="touchpoint of being asked; then the cutoff is that moment")
    scale: tuple[int, int] | None = Field(None, description="lowest and highest score; for kind custom")

    @model_validator(mode="after")
    def _scale_fits(self) -> SatisfactionConfig:
        if (self.kind == "custom") != (self.scale is not None):
            raise ValueError("'scale: [lowest, highest]' goes with kind 'custom', and kind 'custom' needs it")
        if self.scale is not None and not 1 <= self.scale[1] - self.scale[0] <= 100:
            raise ValueError("'scale' must ascend and have at most 101 scores")
        if self.asked == self.touchpoint:
            raise ValueError("'asked' and 'touchpoint' must differ: one is the question, the other the answer")
        return self

    @property
    def bounds(self) -> tuple[int, int]:
        """Lowest and highest score."""
        return self.scale if self.scale is not None else _SCALES[self.kind]


class NeedsConfig(_Part):
    """Which contacts a customer may need next."""

    touchpoints: list[str] = Field(min_length=1)
    horizon: DurationField = Duration.parse("14d")


class TrackingConfig(_Part):
    """Where experiments are recorded."""

    uri: str = Field("sqlite:///mlflow.db", description="MLflow tracking URI; sqlite paths are relative to the file")
    experiment: str | None = Field(None, description="default: the project's name")
    register_model: bool = Field(True, description="register the trained model under the project's name")


class ProjectConfig(_Part):
    """A whole project file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="names the model, the experiment and the outputs")
    journeys: JourneysConfig
    customers: CustomersConfig | None = None
    snapshots: SnapshotsConfig = SnapshotsConfig()
    features: FeaturesConfig = FeaturesConfig()
    churn: ChurnConfig | None = None
    satisfaction: SatisfactionConfig | None = None
    needs: NeedsConfig | None = None
    playbook: str | None = Field(None, description="path of the playbook of actions")
    tracking: TrackingConfig = TrackingConfig()
    random_state: int = Field(0, ge=0, description="same seed, same data: same model, byte for byte")

    _folder: Path = PrivateAttr(default=Path("."))
    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _something_to_learn(self) -> ProjectConfig:
        if self.churn is None and self.satisfaction is None:
            raise ValueError("nothing to learn: add 'churn' or 'satisfaction'")
        taken = set(self.journeys.attributes) & set(self.customers.attributes if self.customers else [])
        if taken:
            raise ValueError(f"attribute '{min(taken)}' is in both journeys and customers; rename one under columns")
        return self

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self._folder

    @property
    def file(self) -> Path | None:
        """The project file, where there is one."""
        return self._file


def load_config(path: str | os.PathLike[str]) -> ProjectConfig:
    """Read and check a project file.

    Parameters
    ----------
    path : path
        A YAML file.

    Returns
    -------
    ProjectConfig

    Raises
    ------
    ConfigError
        Naming the file, line, key, what is wrong and the nearest known key, for every fault found.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the project file '{file}': {error.strerror or error}. "
            "Write one with: cxml init DATA"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from error
    config = parse_config(text, name=str(file))
    config._folder, config._file = file.resolve().parent, file.resolve()
    return config


def parse_config(text: str, name: str = "project file", folder: str | os.PathLike[str] = ".") -> ProjectConfig:
    """Check the text of a project file; ``name`` stands in messages, ``folder`` is where its paths start.

    Examples
    --------
    >>> parse_config('''
    ... name: shop
    ... journeys: {sources: [events.csv]}
    ... churn: {kind: inactivity, horizon: [30d]}
    ... ''')
    Traceback (most recent call last):
        ...
    cxml.errors.ConfigError: project file, line 4: churn.horizon: unknown key; did you mean 'horizons'?
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    except ValueError as error:  # e.g. the date 2024-13-01
        raise ConfigError(f"{name}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: a project file is a mapping that begins with 'name:' and 'journeys:'")
    for key, line in _repeated_keys(tree):
        raise ConfigError(f"{name}, line {line}: key '{key}' is written twice; keep one")
    try:
        config = ProjectConfig.model_validate(content)
    except ValidationError as error:
        faults = [_describe(fault, tree, name) for fault in error.errors()]
        raise ConfigError("\n".join(faults)) from None
    config._folder = Path(folder).resolve()
    return config


def _describe(fault: Any, tree: yaml.Node, name: str) -> str:
    location = tuple(fault["loc"])
    key = ".".join(str(part) for part in location) or "project"
    line = _line(tree, location)
    if fault["type"] == "extra_forbidden":
        what = "unknown key" + nearest(location[-1], _known_keys(location[:-1]))
    elif fault["type"] == "missing":
        what = "missing; this key is required"
    else:
        what = str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] != "value_error" and not isinstance(fault["input"], dict | list):
            what += f" (got {fault['input']!r})"
    return f"{name}, line {line}: {key}: {what}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the part of the tree that ``location`` leads to."""
    part: Any = ProjectConfig
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


def _line(node: yaml.Node, location: tuple[int | str, ...]) -> int:
    line = node.start_mark.line + 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _repeated_keys(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


def expand(text: str) -> str:
    """Fill ``${NAME}`` and ``${NAME:-default}`` from the environment.

    Kept out of the parsed tree on purpose: what is logged and saved shows the name, never the secret.

    Raises
    ------
    ConfigError
        If a variable without a default is not set.

    Examples
    --------
    >>> expand("${CXML_NO_SUCH_VARIABLE:-data}/events.parquet")
    'data/events.parquet'
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found:
            return found
        if match[2] is None:
            raise ConfigError(f"'{text}' needs the environment variable {match[1]}, which is not set")
        return match[2]

    return _VARIABLE.sub(value, text)


def resolve_path(text: str, folder: str | os.PathLike[str]) -> Path:
    """Turn a path of a project file into a real one.

    Relative paths start at the project file's folder; one that begins with a variable that is set
    starts where the user stands, because that is where the variable was written.
    """
    first = _VARIABLE.match(text)
    from_environment = first is not None and bool(os.environ.get(first[1]))
    return (Path.cwd() if from_environment else Path(folder)) / Path(expand(text)).expanduser()


def to_yaml(config: ProjectConfig) -> str:
    """Write a config back as YAML, defaults filled in, variables unexpanded."""
    return yaml.safe_dump(
        config.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True, width=100
    )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the project file, for editors that complete and check YAML."""
    schema = ProjectConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "cxml project file"
    return schema
