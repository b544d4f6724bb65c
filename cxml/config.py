"""The project file: YAML to one typed tree, with messages that name the line and the mend."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    PrivateAttr,
    StrictInt,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema

from cxml.errors import ConfigError, nearest
from cxml.faults import VARIABLE, describe_faults, fault, hide_secrets, read_yaml
from cxml.times import Duration, format_instant, parse_instant

#: Canonical journey columns in their fixed order, which is also the order that breaks ties in time.
CANONICAL_COLUMNS = (
    "customer_id", "timestamp", "sequence", "touchpoint", "channel", "value", "duration", "score",
    "case_id", "resolved", "available_at", "promised",
)  # fmt: skip
REQUIRED_COLUMNS = ("customer_id", "timestamp", "touchpoint")


def _bytes(value: Any) -> Any:
    is_size = re.fullmatch(r"\s*\d+(\.\d+)?\s*([kKMGT]i?)?B?\s*", str(value)) and not isinstance(value, bool)
    if not is_size or not re.search("[1-9]", str(value)):
        raise ValueError(f"{value!r} is no amount of memory; write for example 2GB or 512MB")
    return value


_PARTS_OF_COLUMN = ("statistic", "what", "window")


def _column(value: Any) -> Any:
    """Give the name of a column that is written in parts."""
    if not isinstance(value, Mapping):
        return value
    if "statistic" not in value or not value.keys() <= {*_PARTS_OF_COLUMN}:
        raise ValueError(f"{dict(value)!r} is no column; write a name or {{statistic: count, what: all, window: 30d}}")
    parts = [value[name] for name in _PARTS_OF_COLUMN if name in value]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{dict(value)!r}: statistic, what and window are texts, such as count, all and 30d")
    return "__".join(part for part in parts if part)


def _instant(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, int) and info.context == _WRITTEN:
        raise ValueError(f"'{value}' is a bare number, not a moment in time: write 2024-01-31 or 2024-01-31T12:00:00Z")
    return parse_instant(value)


def _encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(f"encoding '{name}' is unknown; usual ones are utf-8, utf-16, latin-1, cp1252") from None
    return name


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"'{name}' is no time zone{nearest(name, available_timezones())}") from None
    return name


#: Validation context of values written in a file, where Python's own, such as bare microseconds, have no place.
_WRITTEN = "written"

DurationField = Annotated[
    Duration,
    BeforeValidator(Duration.parse),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,18}(us|[wdhms])$", "examples": ["30d", "12h"]}),
]
InstantField = Annotated[
    int,
    BeforeValidator(_instant),
    PlainSerializer(format_instant),
    WithJsonSchema(
        {
            "type": "string",
            "anyOf": [{"format": "date"}, {"format": "date-time"}],
            "examples": ["2024-01-31", "2024-01-31T12:00:00Z"],
        }
    ),
]
ZoneField = Annotated[str, AfterValidator(_zone)]
ColumnField = Annotated[
    str,
    BeforeValidator(_column),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in _PARTS_OF_COLUMN},
                    "required": ["statistic"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
EncodingField = Annotated[str, AfterValidator(_encoding)]
UrlField = Annotated[str, PlainSerializer(hide_secrets)]
BytesField = Annotated[
    ByteSize,
    BeforeValidator(_bytes),
    PlainSerializer(ByteSize.human_readable),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*([kKMGT]i?)?B$", "examples": ["2GB", "512MB"]}),
]


class _Part(BaseModel):
    """A part of the tree: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)


class SourceConfig(_Part):
    """Where rows come from: ``path``, or ``tables`` with ``query``, or ``url`` with ``table`` or ``query``."""

    path: str | None = Field(None, description="file, glob or folder; .parquet .csv .jsonl, plain, .gz or .zst")
    format: Literal["parquet", "csv", "jsonl"] | None = Field(
        None, description="only where the file name does not tell"
    )
    tables: dict[str, str] | None = Field(None, description="name -> file, for `query` to speak of")
    query: str | None = Field(None, description="SQL: DuckDB's over `tables`, PostgreSQL's over `url`")
    url: UrlField | None = Field(
        None, repr=False, description="postgresql://...; write ${NAME} to take a part from the environment"
    )
    table: str | None = Field(None, description="table to read whole, with `url`")
    encoding: EncodingField | None = Field(
        None, description="of text files, e.g. latin-1, cp1252; default: utf-8, or what a byte order mark says"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="canonical name -> the source's own column name")
    where: str | None = Field(None, description="SQL predicate over the source's own columns")
    timezone: ZoneField | None = Field(None, description="zone of stamps that carry none; overrides journeys.timezone")

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

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Say that a bare path will do."""
        mapping = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [{"type": "string", "description": "path of a file, glob or folder"}, mapping]}


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
    timezone: ZoneField | None = Field(None, description="zone of stamps that carry none, e.g. UTC or Europe/Berlin")
    duplicates: Literal["keep", "drop_exact"] = Field("keep", description="what to do with fully equal rows")
    max_quarantined: float = Field(
        1.0, ge=0, le=1, strict=True, description="refuse the data when a larger share of rows is bad (1: never)"
    )
    memory_limit: BytesField | None = Field(
        None,
        description="about how much memory the journeys may take, e.g. 2GB; what is more is sorted on disk, in the "
        "folder for temporary files. Default: half of the machine's",
    )
    stages: dict[str, list[str]] = Field(default_factory=dict, description="lifecycle stage -> touchpoints")
    activity: list[str] = Field(default_factory=list, description="what counts as being active; default: all")
    contacts: list[str] = Field(default_factory=list, description="contacts with service")
    interventions: list[str] = Field(
        default_factory=list,
        description="what you do to keep customers, e.g. a call of yours; default: the touchpoints of the playbook",
    )
    promises: list[str] = Field(
        default_factory=list,
        description="by what a promise is kept, e.g. delivered; the promised time is the column `promised`. Default: "
        "each event that carries a promised time keeps it itself",
    )
    session_gap: DurationField = Field(
        Duration.parse("30m"), description="a session ends when longer than this nothing happens"
    )
    repeat_within: DurationField = Field(
        Duration.parse("7d"),
        description="so long after a contact another one is a repetition of it; one without a repetition was resolved",
    )
    respond_within: DurationField = Field(
        Duration.parse("14d"),
        description="so long after an intervention or an answer to a survey something is a response",
    )
    self_service: list[str] | None = Field(
        None, description="channels in which customers help themselves; default: guessed by name, such as web, app, bot"
    )
    owners: dict[Literal["service", "billing", "logistics", "marketing", "product"], list[str]] = Field(
        default_factory=dict, description="who can act on a touchpoint, where its name does not tell"
    )
    factors: dict[Literal["does", "feels", "likes", "sees", "thinks", "wants"], list[str]] = Field(
        default_factory=dict, description="what a touchpoint tells of the customer, where its name does not tell"
    )

    @model_validator(mode="after")
    def _names_fit(self) -> JourneysConfig:
        for part in ("measures", "attributes"):
            for i, name in enumerate(getattr(self, part)):
                if name in CANONICAL_COLUMNS:
                    raise fault(f"'{name}' is a canonical column already; take it out", part, i)
                if name == "promise":
                    what = "is what a promised time becomes; map that under columns as 'promised', or rename this"
                    raise fault(f"'{name}' {what}", part, i)
                if not re.fullmatch(r"[A-Za-z_]\w*", name):
                    raise fault(
                        f"'{name}' cannot name a measure or attribute: use letters, digits and _, "
                        "and map the source's own name under columns", part, i,
                    )  # fmt: skip
        both = set(self.measures) & set(self.attributes)
        if both:
            raise fault(f"'{min(both)}' is both a measure and an attribute", "attributes")
        for i, source in enumerate(self.sources):
            for name in source.columns:
                if name not in self.columns:
                    what = f"unknown canonical name{nearest(name, self.columns)}"
                    raise fault(what, "sources", i, "columns", name)
        return self

    @model_validator(mode="after")
    def _one_stage_each(self) -> JourneysConfig:
        seen: dict[str, str] = {}
        for stage, touchpoints in self.stages.items():
            for i, touchpoint in enumerate(touchpoints):
                if seen.setdefault(touchpoint, stage) != stage:
                    what = f"touchpoint '{touchpoint}' is in two stages, '{seen[touchpoint]}' and '{stage}'"
                    raise fault(what, "stages", stage, i)
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
    timezone: ZoneField | None = Field(None, description="zone of valid_from stamps that carry none")

    @model_validator(mode="after")
    def _names_fit(self) -> CustomersConfig:
        known = ("customer_id", "valid_from", *self.attributes)
        for at, columns in ((("columns",), self.columns), (("source", "columns"), self.source.columns)):
            for name in columns:
                if name not in known:
                    raise fault(f"unknown name{nearest(name, known)}", *at, name)
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
    gap: DurationField | None = Field(
        None, description="what is learned was known so long before calibration and test begin; for data that come late"
    )

    @model_validator(mode="after")
    def _in_order(self) -> SnapshotsConfig:
        marks = [
            (name, value)
            for name in ("start", "calibration_start", "test_start", "end")
            if (value := getattr(self, name)) is not None
        ]
        for (a, x), (b, y) in itertools.pairwise(marks):
            if x > y:
                raise fault(f"'{a}' ({format_instant(x)}) is after '{b}' ({format_instant(y)})", a)
        return self


class FeaturesConfig(_Part):
    """Which features; the defaults come from the log."""

    windows: list[DurationField] = Field(
        default_factory=lambda: [Duration.parse(w) for w in ("7d", "30d", "90d", "365d")],
        min_length=1,
        description="how far back the statistics look",
    )
    max_values: StrictInt = Field(
        40, ge=1, le=1000, description="at most so many touchpoints and channels get columns of their own, by frequency"
    )

    families: list[str] = Field(
        default_factory=lambda: ["basic"],
        description="which families of columns: basic, rhythm, trend, mix, service, feedback, rfm, amount, shape, "
        "likeness, peers",
    )
    columns: list[ColumnField] = Field(
        default_factory=list,
        description="further columns, by name, such as mean__duration@touchpoint=call&channel=phone__30d, or as "
        "{statistic: mean, what: duration, window: 30d}, or the name of a function that one of `modules` registers",
    )
    modules: list[str] = Field(
        default_factory=list,
        description="Python files of yours that register features; they are run, with all that this user may do",
    )
    max_columns: Annotated[StrictInt, Field(ge=1)] | None = Field(
        2000, description="at most so many columns; those of the least frequent values are left out; null: no limit"
    )

    @field_validator("windows")
    @classmethod
    def _ascending(cls, windows: list[Duration]) -> list[Duration]:
        return sorted(set(windows))


class ProfitConfig(_Part):
    """What keeping a customer is worth and what trying costs, for the expected maximum profit of a churn model."""

    value: float | str = Field(
        1.0, union_mode="left_to_right", description="what is lost with a customer: a number, or the name of a numeric "
        "feature, e.g. sum__value__365d"
    )  # fmt: skip
    offer: float = Field(
        0.05, ge=0, allow_inf_nan=False, description="cost of the offer with all who take it, in the unit of value"
    )
    contact: float = Field(
        0.005, ge=0, allow_inf_nan=False, description="cost of addressing a customer, in the unit of value"
    )
    accepts: tuple[float, float] = Field(
        (6.0, 14.0), description="a and b of the Beta distribution of the chance that a churner accepts and stays"
    )

    @model_validator(mode="after")
    def _can_be_reckoned(self) -> ProfitConfig:
        if not all(0 < number < math.inf for number in self.accepts):
            raise fault("both numbers must be above 0", "accepts")
        if isinstance(self.value, float) and not 0 < self.value < math.inf:
            raise fault("must be above 0", "value")
        if self.value != 1.0 and not {"offer", "contact"} <= self.model_fields_set:
            raise fault("with a value of your own, give 'offer' and 'contact' in the same unit", "value")
        return self


class ParametersConfig(_Part):
    """How the trees of one target grow, where not as by default; `cxml train --tune` finds such values."""

    learning_rate: float | None = Field(None, gt=0, le=1, strict=True)
    num_leaves: StrictInt | None = Field(None, ge=2, le=4096, description="most leaves of a tree")
    max_depth: StrictInt | None = Field(None, ge=-1, le=64, description="-1: as deep as the leaves allow")
    min_child_samples: StrictInt | None = Field(None, ge=1, description="fewest snapshots in a leaf")
    subsample: float | None = Field(None, gt=0, le=1, strict=True, description="share of the snapshots for each tree")
    colsample_bytree: float | None = Field(
        None, gt=0, le=1, strict=True, description="share of the features for each tree"
    )
    reg_alpha: float | None = Field(None, ge=0, strict=True)
    reg_lambda: float | None = Field(None, ge=0, strict=True)
    n_estimators: StrictInt | None = Field(None, ge=1, description="most trees")
    early_stopping_rounds: StrictInt | None = Field(
        None, ge=1, description="stop when so many trees in a row did not help"
    )

    def given(self) -> dict[str, float | int]:
        """Return what is not left to its default."""
        return self.model_dump(exclude_none=True)


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
    reasons: dict[str, list[str]] = Field(
        default_factory=dict, description="kind event: reason -> which of the touchpoints; every score then has the "
        "probability of each reason, e.g. churn_30d__voluntary"
    )  # fmt: skip
    calibrate_by: str | None = Field(
        None, description="attribute whose segments are calibrated apart, as far as the data bear it"
    )
    corrections: Literal["auto", True, False, "apart"] = Field(
        "auto",
        description="small trees for each horizon alone; auto: where they clearly pay on later customers; apart: all "
        "trees are of one horizon, as auto does where the horizons have too little in common",
    )
    parameters: ParametersConfig | None = Field(None, description="of the trees; what is not named stays as it is")
    profit: ProfitConfig | None = Field(
        None, description="for the expected maximum profit; default: every customer is worth 1"
    )

    @field_validator("horizons")
    @classmethod
    def _ascending(cls, horizons: list[Duration]) -> list[Duration]:
        return sorted(set(horizons))

    @model_validator(mode="after")
    def _kind_fits(self) -> ChurnConfig:
        if (self.kind == "event") != bool(self.touchpoints):
            raise fault("'touchpoints' go with kind 'event', and kind 'event' needs them", "touchpoints")
        if (self.kind == "table") != (self.source is not None):
            raise fault("'source' goes with kind 'table', and kind 'table' needs it", "source")
        self._check_reasons()
        known = ("customer_id", "timestamp")
        for name in self.columns:
            if name not in known:
                raise fault(f"unknown name{nearest(name, known)}", "columns", name)
        return self

    def _check_reasons(self) -> None:
        if not self.reasons:
            return
        if self.kind != "event" or len(self.reasons) < 2:
            raise fault("go with kind 'event', and two reasons or more compete", "reasons")
        for name in self.reasons:
            if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
                what = f"'{name}' cannot name a reason: write small letters and digits, and _ between them"
                raise fault(what, "reasons", name)
        named = [touchpoint for touchpoints in self.reasons.values() for touchpoint in touchpoints]
        for name, touchpoints in self.reasons.items():
            for i, touchpoint in enumerate(touchpoints):
                if touchpoint not in self.touchpoints:
                    what = f"'{touchpoint}' is not churn{nearest(touchpoint, self.touchpoints)}"
                    raise fault(what, "reasons", name, i)
                if named.count(touchpoint) > 1:
                    raise fault(f"'{touchpoint}' has more than one reason", "reasons", name, i)
        rest = [touchpoint for touchpoint in self.touchpoints if touchpoint not in named]
        if rest:
            raise fault(f"every one of 'touchpoints' needs its reason, and '{rest[0]}' has none", "reasons")


_SCALES = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}


class SatisfactionConfig(_Part):
    """Which survey, on which scale."""

    kind: Literal["nps", "csat", "ces", "custom"]
    touchpoint: str = Field(description="rows of this touchpoint carry the answer in `score`")
    asked: str | None = Field(None, description="touchpoint of being asked; then the cutoff is that moment")
    scale: tuple[StrictInt, StrictInt] | None = Field(None, description="lowest and highest score; for kind custom")
    calibrate_by: str | None = Field(
        None, description="attribute whose segments are calibrated apart, as far as the data bear it"
    )
    parameters: ParametersConfig | None = Field(None, description="of the trees; what is not named stays as it is")

    @model_validator(mode="after")
    def _scale_fits(self) -> SatisfactionConfig:
        if (self.kind == "custom") != (self.scale is not None):
            raise fault("'scale: [lowest, highest]' goes with kind 'custom', and kind 'custom' needs it", "scale")
        if self.scale is not None and not 1 <= self.scale[1] - self.scale[0] <= 100:
            raise fault("must ascend and have at most 101 scores", "scale")
        if self.asked == self.touchpoint:
            raise fault("must differ from 'touchpoint': one is the question, the other the answer", "asked")
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

    uri: UrlField = Field(
        "sqlite:///mlflow.db", repr=False, description="MLflow tracking URI; sqlite paths are relative to the file"
    )
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
    random_state: StrictInt = Field(0, ge=0, description="same seed, same data: same model, byte for byte")

    _folder: Path = PrivateAttr(default=Path())
    _file: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _something_to_learn(self) -> ProjectConfig:
        if self.churn is None and self.satisfaction is None:
            raise ValueError("nothing to learn: add 'churn' or 'satisfaction'")
        attributes = [*self.journeys.attributes, *(self.customers.attributes if self.customers else [])]
        for target in ("churn", "satisfaction"):
            by = getattr(getattr(self, target), "calibrate_by", None)
            if by is not None and by not in attributes:
                raise fault(f"'{by}' is no attribute{nearest(by, attributes)}", target, "calibrate_by")
        taken = set(self.journeys.attributes) & set(self.customers.attributes if self.customers else [])
        if taken:
            what = f"attribute '{min(taken)}' is in both journeys and customers; rename one under columns"
            raise fault(what, "customers", "attributes")
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
            f"cannot read the project file '{file}': {error.strerror or error}. Write one with: cxml init DATA"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
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
    content, tree = read_yaml(text, name)
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: a project file is a mapping that begins with 'name:' and 'journeys:'")
    try:
        config = ProjectConfig.model_validate(content, context=_WRITTEN)
    except ValidationError as error:
        raise ConfigError("\n".join(describe_faults(error, ProjectConfig, name, tree))) from None
    config._folder = Path(folder).resolve()
    return config


_PartType = TypeVar("_PartType", bound=_Part)


def playbook_touchpoints(config: ProjectConfig) -> tuple[str, ...]:
    """Give the touchpoints that record the actions of the playbook in the journeys.

    Parameters
    ----------
    config : ProjectConfig

    Returns
    -------
    tuple of str
        In the order of the playbook; empty where the project has none.

    Raises
    ------
    ConfigError
        If the playbook cannot be read, or has no list of actions.

    Examples
    --------
    >>> playbook_touchpoints(parse_config("{name: a, journeys: {sources: [a.csv]}, churn: {kind: inactivity}}"))
    ()
    """
    if config.playbook is None:
        return ()
    file = resolve_path(config.playbook, config.folder)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot read the playbook '{file}': {why}. Correct 'playbook', or take it out and name your touchpoints "
            "under journeys.interventions"
        ) from error
    content, _ = read_yaml(text, str(file))
    actions = content.get("actions") if isinstance(content, Mapping) else None
    if not isinstance(actions, list) or not all(isinstance(action, Mapping) for action in actions):
        raise ConfigError(f"{file}: a playbook has a list 'actions:', each with a 'touchpoint'")
    found = (action.get("touchpoint") for action in actions)
    return tuple(dict.fromkeys(str(touchpoint) for touchpoint in found if touchpoint is not None))


def check_part(part: type[_PartType], values: Mapping[str, Any], name: str = "argument") -> _PartType:
    """Make one part of the tree from Python values, with the messages of the project file.

    Parameters
    ----------
    part : type
        E.g. `ChurnConfig`.
    values : mapping
        Its keys and values; what is not there gets its default.
    name : str
        What to call the values in messages.

    Returns
    -------
    the part

    Raises
    ------
    ConfigError
        Naming key, what is wrong and the nearest known key, for every fault found.

    Examples
    --------
    >>> check_part(ChurnConfig, {"kind": "inactivity", "horizon": ["30d"]})
    Traceback (most recent call last):
        ...
    cxml.errors.ConfigError: argument horizon: unknown key; did you mean 'horizons'?
    """
    try:
        return part.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("\n".join(describe_faults(error, part, name))) from None


def expand(text: str) -> str:
    """Fill ``${NAME}`` and ``${NAME:-default}`` from the environment.

    Kept out of the parsed tree on purpose: what is logged and saved shows the name, never the secret.

    Raises
    ------
    ConfigError
        If a variable without a default is not set.

    Examples
    --------
    >>> expand("${CXML_NO_SUCHVARIABLE:-data}/events.parquet")
    'data/events.parquet'
    """

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found:
            return found
        if match[2] is None:
            raise ConfigError(f"'{hide_secrets(text)}' needs the environment variable {match[1]}, which is not set")
        return match[2]

    return VARIABLE.sub(value, text)


def resolve_path(text: str, folder: str | os.PathLike[str]) -> Path:
    """Turn a path of a project file into a real one.

    Relative paths start at the project file's folder; one that begins with a variable that is set
    starts where the user stands, because that is where the variable was written.
    """
    first = VARIABLE.match(text)
    from_environment = first is not None and bool(os.environ.get(first[1]))
    return (Path.cwd() if from_environment else Path(folder)) / Path(expand(text)).expanduser()


def to_yaml(config: ProjectConfig, without: Mapping[str, set[str]] = MappingProxyType({})) -> str:
    """Write a config back as YAML: defaults filled in, variables unexpanded, passwords hidden.

    Parameters
    ----------
    config : ProjectConfig
    without : mapping of str to set of str
        Keys to leave out, by part.

    Returns
    -------
    str

    Examples
    --------
    >>> config = parse_config("{name: shop, journeys: {sources: [a.csv]}, churn: {kind: inactivity}}")
    >>> parse_config(to_yaml(config)) == config
    True
    """
    return yaml.safe_dump(
        config.model_dump(mode="json", exclude_none=True, exclude=dict(without)),
        sort_keys=False,
        allow_unicode=True,
        width=100,
    )


class _SchemaMaker(GenerateJsonSchema):
    """Writes defaults as a project file would."""

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if isinstance(dft, Duration) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the project file, for editors that complete and check YAML."""
    schema = ProjectConfig.model_json_schema(schema_generator=_SchemaMaker)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "cxml project file"
    return schema
