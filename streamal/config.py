"""``config.toml`` → one frozen `Config`. Unknown keys are errors, and so are unknown ``STREAMAL_*`` variables.

Order, strongest first: ``--set section.key=value`` > environment ``STREAMAL_SECTION__KEY`` > file > defaults. The
commented reference of every key is ``config.toml`` at the root of the repository; a test holds the two together.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from streamal.core.budget.money import MICRO, WINDOWS, Prices, micros
from streamal.core.codec.wire_rules import TEXT_BYTES_MAX
from streamal.core.labels import class_name
from streamal.core.strategies import STRATEGIES
from streamal.core.strategies.uncertainty import MEASURES
from streamal.core.vectors import vector_length
from streamal.errors import ConfigError

__all__ = [
    "LOOPBACK",
    "RESERVED_PATHS",
    "Config",
    "LabelPageConfig",
    "LogConfig",
    "ServerConfig",
    "TemplateConfig",
    "load_config",
    "reveal",
    "service_variables",
]

ENV_PREFIX = "STREAMAL_"
_ENV_FOREIGN = ("STREAMAL_TEST_", "STREAMAL_REQUIRE_")
"""Variables of ours that are no configuration keys."""
_ENV_OF_SERVICE = re.compile(
    r"STREAMAL_([A-Z0-9]+_)*("
    r"SERVICE_HOST=.+|SERVICE_PORT(_[A-Z0-9_]+)?=\d+|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://.+"
    r"|PORT_\d+_(TCP|UDP|SCTP)_(PROTO=\w+|PORT=\d+|ADDR=.+))"
)
"""What Kubernetes tells each pod about a service whose name begins with "streamal": name and value."""
_SECRETS = (
    ("transport", "security", "sasl_password"),
    ("transport", "security", "ssl_key_password"),
    ("server", "token"),
    ("snapshots", "key"),
)
"""What must not lie about in a file, or in the list of processes."""

_DEPTH_MAX = 64
"""Levels of tables and arrays; a pipeline of pipelines needs some ten."""
TOKEN_CHARACTERS_MIN = 16
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
RESERVED_PATHS = frozenset({"api", "static", "status", "login", "logout", "healthz"})
"""Paths of the label page: no prefix may begin with one."""

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""What Kafka allows; the same for every transport."""
Share = Annotated[Decimal, Field(gt=0, le=1, decimal_places=9)]
Part = Annotated[Decimal, Field(ge=0, le=1, decimal_places=9)]
Money = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=6)]
MoneyCap = Annotated[Decimal, Field(gt=0, le=1_000_000_000, decimal_places=6)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
_KINDS = ("number", "string", "boolean", "text")


def _require_kind(kind: str) -> str:
    """Return *kind* if it is one of a feature."""
    if kind == "vector":
        raise ValueError('say how many numbers the vector has, for example "vector(384)"')
    if kind not in _KINDS and vector_length(kind) is None:
        raise ValueError(f"must be one of {', '.join(_KINDS)}, or vector(384) for a list of 384 numbers")
    return kind


Kind = Annotated[str, AfterValidator(_require_kind)]


def _class_name(value: Any) -> Any:
    return class_name(value) if isinstance(value, str | bool | int | float) else value


ClassName = Annotated[str, BeforeValidator(_class_name), Field(min_length=1)]
"""A class as a reply would spell it, so that `classes = [0, 1]` and "1.0" are the classes of the labels 0 and 1."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class SecurityConfig(_Section):
    """How to get into a Kafka cluster."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_key_password: SecretStr | None = None
    ssl_check_hostname: bool = True

    @model_validator(mode="after")
    def _complete(self) -> SecurityConfig:
        if self.protocol.startswith("SASL") != (self.sasl_mechanism is not None):
            raise ValueError(f"protocol {self.protocol!r} does not go with sasl_mechanism {self.sasl_mechanism!r}")
        if self.sasl_mechanism not in (None, "GSSAPI") and None in (self.sasl_username, self.sasl_password):
            raise ValueError(
                f"{self.sasl_mechanism} needs sasl_username, and the password in the environment variable "
                f"{ENV_PREFIX}TRANSPORT__SECURITY__SASL_PASSWORD"
            )
        return self


class TransportConfig(_Section):
    """Where the topics are."""

    kind: Literal["sqlite", "kafka"] = "sqlite"
    path: Path = Path("streamal.db")
    client: Literal["kafka-python", "confluent"] = "kafka-python"
    bootstrap_servers: str = Field(default="localhost:9092", pattern=r"^[^,\s]+:\d+(,[^,\s]+:\d+)*$")
    security: SecurityConfig = SecurityConfig()
    instance: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,200}$")
    connect_timeout_s: Seconds = 60.0
    session_timeout_s: float = Field(default=10.0, ge=1, le=300)
    group: str = Field(default="streamal", min_length=1, max_length=200)
    partitions: int = Field(default=1, ge=1, le=10_000)
    poll_timeout_s: float = Field(default=0.2, gt=0, le=10)


class TopicsConfig(_Section):
    """The names of the six topics."""

    events: str = "streamal.events"
    labels: str = "streamal.labels"
    predictions: str = "streamal.predictions"
    requests: str = "streamal.requests"
    training: str = "streamal.training"
    dead_letters: str = "streamal.dead-letters"

    @model_validator(mode="after")
    def _distinct(self) -> TopicsConfig:
        names = list(self.model_dump().values())
        strange = [name for name in names if name and (not _TOPIC.fullmatch(name) or name in {".", ".."})]
        if strange:
            raise ValueError(
                f"a topic's name has 1 to 249 letters, digits, dots, underscores and hyphens, not {strange[0][:300]!r}"
            )
        if len(set(names)) != len(names) or not all(names):
            raise ValueError("the six topics need six different, non-empty names")
        return self


class EventsConfig(_Section):
    """What an event looks like."""

    format: Literal["nested", "flat"] = "nested"
    id: str = "id"
    time: str = "time"


class FeaturesConfig(_Section):
    """Which features may reach the model."""

    declared: dict[str, Kind] = {}
    infer_from: Positive = 20
    unknown: Literal["drop", "refuse"] = "drop"
    null: Literal["refuse", "missing"] = "refuse"
    missing: tuple[str, ...] = ()
    open: bool = False
    embed: dict[str, Annotated[str, Field(pattern=r"^(wordllama|[\w.]+:\w+)$")]] = {}
    embed_batch: Positive = 256

    @model_validator(mode="after")
    def _embeds_texts(self) -> FeaturesConfig:
        for name in self.embed:
            if self.declared and self.declared.get(name, "text" if self.open else "") not in {"text", "string"}:
                raise ValueError(f'embed.{name}: declare it too: features.declared = {{ {name} = "text", … }}')
        return self

    @model_validator(mode="after")
    def _open_or_refuse(self) -> FeaturesConfig:
        if self.open and self.unknown == "refuse":
            raise ValueError("open = true lets unknown names through, unknown = 'refuse' does not: choose one")
        return self


class LabelsConfig(_Section):
    """Which labels may be learned, and how long one waits for them."""

    classes: tuple[ClassName, ...] = ()
    new_classes: Literal["learn", "refuse"] | None = None
    ttl_s: Seconds = 7 * 86_400.0
    natural: bool = False

    @property
    def learn_new(self) -> bool:
        """Whether a class outside the declared ones is learned; by default only if none were declared."""
        return not self.classes if self.new_classes is None else self.new_classes == "learn"

    @model_validator(mode="after")
    def _some_class(self) -> LabelsConfig:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ; 1, 1.0 and '1' are one class, as are true and 'True'")
        if len(self.classes) == 1 and not self.learn_new:
            raise ValueError("one class alone leaves nothing to ask; declare another, or new_classes = 'learn'")
        if any(len(name.encode()) > TEXT_BYTES_MAX for name in self.classes):
            raise ValueError(f"a class name must have at most {TEXT_BYTES_MAX} bytes, as a reply's label must")
        if self.new_classes == "refuse" and not self.classes:
            raise ValueError("new_classes = 'refuse' without any declared classes would refuse every label")
        return self


class RehearsalConfig(_Section):
    """What is repeated with each new label."""

    window: int = Field(default=100, ge=1, le=10_000)
    repeats: int = Field(default=0, ge=0, le=100)


class ModelConfig(_Section):
    """The River estimator."""

    pipeline: tuple[dict[str, Any], ...] = ()
    factory: str | None = Field(default=None, pattern=r"^[\w.]+:\w+$")
    seed: int = 42
    warm_start: Path | None = None
    warm_start_label: str = Field(default="label", min_length=1)
    warm_start_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    rehearsal: RehearsalConfig = RehearsalConfig()

    @model_validator(mode="after")
    def _one_of_both(self) -> ModelConfig:
        if self.pipeline and self.factory:
            raise ValueError("give either pipeline or factory, not both")
        if self.warm_pickle and (self.pipeline or self.factory):
            raise ValueError("a pickled warm_start is the whole model: give no pipeline or factory beside it")
        return self

    @property
    def warm_pickle(self) -> bool:
        """Whether the warm start is a pickled model, rather than labelled examples."""
        return self.warm_start is not None and self.warm_start.suffix in {".pkl", ".pickle"}


class SamplingConfig(_Section):
    """Whom to ask."""

    strategy: str = "randomised_variable"
    uncertainty: str = "least_confidence"
    seed: int = 7
    parameters: dict[str, Any] = {}
    damping: float | None = Field(default=None, gt=0, le=10)

    @model_validator(mode="after")
    def _known(self) -> SamplingConfig:
        if self.strategy not in STRATEGIES and not re.fullmatch(r"[\w.]+:\w+", self.strategy):
            known = ", ".join(STRATEGIES)
            raise ValueError(f'strategy must be one of {known}, or "package.module:Class", not {self.strategy!r}')
        if self.uncertainty not in MEASURES:
            raise ValueError(f"uncertainty must be one of {', '.join(MEASURES)}, not {self.uncertainty!r}")
        return self


class BudgetConfig(_Section):
    """How much may be asked, and what it costs."""

    share: Share = Decimal("0.10")
    burst: Positive = 20
    per_hour: Positive | None = None
    per_day: Positive | None = None
    audit_share: Part = Decimal("0.3")
    quotas: dict[ClassName, Share] = Field(default={}, max_length=4)
    pace_horizon_s: Seconds | None = None
    cost_per_label: Money = Decimal(0)
    wage_per_hour: Money = Decimal(0)
    seconds_max: int = Field(default=300, ge=1, le=86_400)
    cost_per_hour: MoneyCap | None = None
    cost_per_day: MoneyCap | None = None
    cost_per_month: MoneyCap | None = None
    refund_expired: bool = True
    refund_abstained: bool = False
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")

    @property
    def fractions(self) -> tuple[Fraction, Fraction]:
        """Share and audit share, exactly as written."""
        return Fraction(self.share), Fraction(self.audit_share)

    @property
    def cost_caps(self) -> tuple[Decimal | None, ...]:
        """The caps on money of an hour, a day and a month."""
        return self.cost_per_hour, self.cost_per_day, self.cost_per_month

    @property
    def prices(self) -> Prices:
        """What a label costs, in whole micro-units."""
        return Prices(
            per_label=micros(self.cost_per_label),
            per_hour=micros(self.wage_per_hour),
            seconds_max=self.seconds_max,
            refund_expired=self.refund_expired,
            refund_abstained=self.refund_abstained,
        )

    @model_validator(mode="after")
    def _adds_up(self) -> BudgetConfig:
        if sum(self.quotas.values()) >= 1:
            raise ValueError("quotas are parts of what the strategy may ask: together they must be less than 1")
        if any(self.cost_caps) and not self.prices.reserved:
            raise ValueError("a cap on money needs a price: set cost_per_label or wage_per_hour")
        return self


class QualityConfig(_Section):
    """How quality is measured."""

    window: Positive = 1_000
    interval: Literal["wilson", "confidence_sequence"] = "wilson"
    control: bool = False


class SnapshotsConfig(_Section):
    """The cache that makes a restart quick."""

    directory: Path | None = Path("snapshots")
    key: Annotated[SecretStr, Field(min_length=16)] | None = None

    @field_validator("directory", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == "" else value

    every_s: Seconds = 60.0


class BridgeConfig(_Section):
    """Another labelling tool: Label Studio."""

    url: str = Field(default="http://localhost:8080", pattern=r"^https?://[^\s/]+(/\S*)?$")
    token: SecretStr | None = None
    project: str = Field(default="streamal", pattern=r"^(\d+|.{3,50})$")
    label_config: Path | None = None
    show_prediction: bool = False
    poll_s: float = Field(default=2.0, gt=0, le=3_600)
    reconcile_s: float = Field(default=600.0, gt=0, le=86_400)
    tasks_max: int = Field(default=1_000, ge=1, le=100_000)
    batch: int = Field(default=100, ge=1, le=1_000)
    timeout_s: float = Field(default=30.0, gt=0, le=600)

    @field_validator("project", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ServerConfig(_Section):
    """``/metrics``, ``/livez``, ``/readyz``."""

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65_535)
    enabled: bool = True
    token: Annotated[SecretStr, Field(min_length=16)] | None = None
    tls_certfile: Path | None = None
    tls_keyfile: Path | None = None

    @property
    def exposed(self) -> bool:
        """Whether other machines reach the port; a name is taken for one that they know."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @model_validator(mode="after")
    def _guarded(self) -> ServerConfig:
        if (self.tls_certfile is None) != (self.tls_keyfile is None):
            raise ValueError("tls_certfile and tls_keyfile go together")
        if self.enabled and self.exposed and self.token is None:
            raise ValueError(
                f"server.host = {self.host!r} is reached from other machines: set {ENV_PREFIX}SERVER__TOKEN "
                "(16 characters or more), or server.host = '127.0.0.1'"
            )
        return self


class TemplateConfig(_Section):
    """How an event is shown to people; features that are not named stand in a table."""

    text: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _once(self) -> TemplateConfig:
        names = [*self.text, *self.image, *self.link, *self.hide]
        if len(set(names)) != len(names):
            raise ValueError("a feature is shown in one way: name it once")
        return self


class LabelPageConfig(_Section):
    """`streamal label`: where people answer."""

    host: str = "127.0.0.1"
    port: int = Field(default=8800, ge=0, le=65_535)
    template: TemplateConfig = TemplateConfig()
    image_hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:\d+)?$")], ...] = ()
    show_prediction: bool = False
    guidelines: Path | None = None
    lease_s: float = Field(default=120.0, ge=5, le=86_400)
    undo_s: float = Field(default=3.0, ge=0, le=60)
    tokens: dict[Annotated[str, Field(min_length=1, max_length=64)], SecretStr] = {}
    admins: tuple[str, ...] = ()
    secure_cookies: bool = False
    trusted_proxies: tuple[str, ...] = ()
    root_path: str = Field(default="", pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$", max_length=200)

    @model_validator(mode="after")
    def _reachable(self) -> LabelPageConfig:
        for network in self.trusted_proxies:
            try:
                ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {network!r} is no address and no network: {error}") from None
        if self.root_path and self.root_path.split("/")[1] in RESERVED_PATHS:
            raise ValueError(f"root_path {self.root_path!r} begins like a path of the page: choose another one")
        return self

    @model_validator(mode="after")
    def _guarded(self) -> LabelPageConfig:
        weak = [name for name, token in self.tokens.items() if len(token.get_secret_value()) < TOKEN_CHARACTERS_MIN]
        if weak:
            raise ValueError(f"the token of {weak[0]!r} is shorter than {TOKEN_CHARACTERS_MIN} characters")
        values = [token.get_secret_value() for token in self.tokens.values()]
        if len(set(values)) != len(values):
            raise ValueError("two people have the same token: give each one of their own")
        if strange := set(self.admins) - set(self.tokens):
            raise ValueError(f"admins names {min(strange)!r}, who has no token")
        if not self.tokens and self.host not in LOOPBACK:
            raise ValueError(
                f"host {self.host!r} is reached from other machines, and there is no login: set "
                f'{ENV_PREFIX}LABEL_PAGE__TOKENS=\'{{"ann": "…"}}\', or host to 127.0.0.1'
            )
        return self


class LogConfig(_Section):
    """What is written to standard error."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"
    spans: bool = False


class LimitsConfig(_Section):
    """A bound on everything."""

    record_bytes: Positive = 1_048_576
    features: Positive = 1_000
    feature_name_bytes: Positive = 256
    vector_length: int = Field(default=4_096, ge=1, le=65_536)
    embedding_bytes: Positive = 64_000_000
    magnitude: float = Field(default=1e12, gt=0, le=1e100)
    classes: int = Field(default=100, ge=2, le=10_000)
    classes_per_annotator: Positive = 5
    dead_letter_bytes: int = Field(default=4_096, ge=0, le=1_048_576)
    open_requests: Positive = 10_000
    open_bytes: Positive = 96_000_000
    closed_requests: Positive = 100_000
    events_per_step: Positive = 500
    labels_per_step: Positive = 100
    step_bytes: Positive = 2_000_000
    step_target_s: float = Field(default=0.25, gt=0, le=10)
    expiries_per_step: Positive = 1_000
    poison_attempts: Positive = 3
    step_max_s: float = Field(default=120.0, ge=1, le=86_400)
    clock_jump_s: float = Field(default=10.0, gt=0, le=86_400)
    clock_settle_s: float = Field(default=300.0, ge=0, le=86_400)


class Config(_Section):
    """The whole configuration; frozen."""

    transport: TransportConfig = TransportConfig()
    topics: TopicsConfig = TopicsConfig()
    events: EventsConfig = EventsConfig()
    features: FeaturesConfig = FeaturesConfig()
    labels: LabelsConfig = LabelsConfig()
    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    budget: BudgetConfig = BudgetConfig()
    quality: QualityConfig = QualityConfig()
    snapshots: SnapshotsConfig = SnapshotsConfig()
    server: ServerConfig = ServerConfig()
    label_page: LabelPageConfig = LabelPageConfig()
    bridge: BridgeConfig = BridgeConfig()
    log: LogConfig = LogConfig()
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _fits_the_partitions(self) -> Config:
        if len(self.labels.classes) > self.limits.classes:
            raise ValueError(
                f"labels.classes has {len(self.labels.classes)}, limits.classes allows {self.limits.classes}"
            )
        for name, kind in self.features.declared.items():
            if (vector_length(kind) or 0) > self.limits.vector_length:
                raise ValueError(f"features.declared.{name}: limits.vector_length is {self.limits.vector_length}")
        if self.quality.interval == "confidence_sequence" and not self.budget.audit_share:
            raise ValueError("quality.interval = 'confidence_sequence' rests on the audit lane: set budget.audit_share")
        partitions = self.transport.partitions
        divided: list[tuple[str, Decimal | int | None, Decimal | int]] = [
            ("budget.burst", self.budget.burst, partitions),
            ("limits.open_requests", self.limits.open_requests, 2 * partitions),
            ("limits.open_bytes", self.limits.open_bytes, 100_000 * partitions),
            ("budget.per_hour", self.budget.per_hour, partitions),
            ("budget.per_day", self.budget.per_day, partitions),
            *self._cost_caps(),
        ]
        for key, value, least in divided:
            if value is not None and value < least:
                raise ValueError(f"{key} is divided among {partitions} partitions: it must be at least {least}")
        return self

    def _cost_caps(self) -> Iterator[tuple[str, Decimal | None, Decimal]]:
        """Yield each cap on money with the least that lets every partition ask for one label."""
        least = Decimal(self.budget.prices.reserved * self.transport.partitions) / MICRO
        for window, cap in zip(WINDOWS, self.budget.cost_caps, strict=True):
            yield f"budget.cost_per_{window}", cap, least

    @model_validator(mode="after")
    def _quotas_are_classes(self) -> Config:
        strange = self.budget.quotas.keys() - set(self.labels.classes)
        if strange and not self.labels.learn_new:
            raise ValueError(f"budget.quotas names {min(strange)!r}, which is not among labels.classes")
        return self


def load_config(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration of *path* (None: defaults only) under environment and *overrides*.

    Args:
        path: a TOML file; it must exist.
        overrides: ``section.key=value`` each; the value is a TOML value, a bare word a string.
        defaults: what a command presets, weaker than the file.

    Raises:
        ConfigError: one line that names the key, where it was set, and what is wrong with it.
    """
    file = _read(path) if path is not None else {}
    foreign = service_variables()
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and not name.startswith(_ENV_FOREIGN) and name not in foreign:
            _require_key(name.removeprefix(ENV_PREFIX).lower().split("__"), f"environment variable {name}")
    stronger: dict[str, Any] = {}
    for override in overrides:
        _set(stronger, override)
    for tree, where in ((file, f"config file {path}"), (stronger, "--set")):
        _require_no_secret(tree, where)
        _require_plain(tree, where)

    class Loader(Config, BaseSettings):
        """Built here because the library fixes the file's path when the class is made."""

        model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid")

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            weaker = (InitSettingsSource(settings_cls, init_kwargs=dict(tree)) for tree in (file, defaults or {}))
            return init_settings, env_settings, *weaker

    try:
        loaded = Loader(**stronger)
    except ValidationError as error:
        raise ConfigError(_one_line(error)) from error
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; lists and tables are written as JSON there") from error
    return Config.model_construct(**{name: getattr(loaded, name) for name in Config.model_fields})


def service_variables() -> tuple[str, ...]:
    """Return the names of the variables that Kubernetes has set for a service called "streamal…"; they are no keys.

    The name alone does not tell: STREAMAL_SERVER_PORT=9000 is a mistyped key, "tcp://10.96.0.13:9000" is Kubernetes'.
    """
    return tuple(name for name, value in sorted(os.environ.items()) if _ENV_OF_SERVICE.fullmatch(f"{name}={value}"))


def reveal(secret: SecretStr | None) -> str | None:
    """Return the text of *secret*."""
    return None if secret is None else secret.get_secret_value()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}; name another with --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"config file {path}: its tables and arrays are nested too deeply") from error


def _require_key(keys: list[str], where: str) -> None:
    """Refuse what the library would ignore in silence: a section or key that there is not."""
    section = Config.model_fields.get(keys[0])
    if section is not None and len(keys) < 2:
        raise ConfigError(f"{where}: {keys[0]!r} is a section; name one of its keys")
    if section is None:
        raise ConfigError(
            f"{where}: there is no section {keys[0]!r}; the sections are {', '.join(Config.model_fields)}"
        )
    known = type(section.default).model_fields
    if keys[1] not in known:
        raise ConfigError(f"{where}: section {keys[0]!r} has no key {keys[1]!r}, but {', '.join(known)}")


def _set(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"--set {override!r}: write section.key=value")
    keys = key.strip().split(".")
    _require_key(keys, f"--set {override!r}")
    for name in keys[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override!r}: {name!r} was set to a value before, and has no keys")
    tree[keys[-1]] = _toml_value(text)


def _require_no_secret(tree: Mapping[str, Any], where: str) -> None:
    """Refuse a password where it would lie about: in a file, or in the list of processes."""
    for keys in _SECRETS:
        part: Any = tree
        for key in keys:
            part = part.get(key) if isinstance(part, Mapping) else None
        if part is not None:
            raise ConfigError(
                f"{where}: {'.'.join(keys)} is taken from the environment only, from "
                f"{ENV_PREFIX}{'__'.join(keys).upper()}"
            )
    page = tree.get("label_page", {})
    if isinstance(page, dict) and "tokens" in page:
        raise ConfigError(
            f"{where}: label_page.tokens is taken from the environment only, as JSON from "
            f"{ENV_PREFIX}LABEL_PAGE__TOKENS"
        )
    bridge = tree.get("bridge", {})
    if isinstance(bridge, dict) and "token" in bridge:
        raise ConfigError(f"{where}: bridge.token is taken from the environment only, from {ENV_PREFIX}BRIDGE__TOKEN")


def _require_plain(tree: Mapping[str, Any], where: str) -> None:
    """Refuse what no library below could name well: a NUL in a text, or more than `_DEPTH_MAX` levels."""
    level: list[tuple[str, Any]] = [("", tree)]
    for _ in range(_DEPTH_MAX):
        below: list[tuple[str, Any]] = []
        for key, value in level:
            if isinstance(value, str) and "\0" in value:
                raise ConfigError(f"{where}: {key} contains a NUL character")
            if isinstance(value, Mapping):
                below += [(f"{key}.{name}".lstrip("."), each) for name, each in value.items()]
            elif isinstance(value, list):
                below += [(key, each) for each in value]
        level = below
    if level:
        raise ConfigError(f"{where}: {level[0][0][:80]} … is nested deeper than {_DEPTH_MAX} levels")


def _toml_value(text: str) -> Any:
    """Return *text* as a TOML value; what is none (a bare word, a path) is a string.

    >>> _toml_value("0.2"), _toml_value("variable"), _toml_value("[1, 2]")
    (0.2, 'variable', [1, 2])
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except RecursionError as error:
        raise ConfigError(f"--set …={text[:40]} …: nested too deeply") from error


def _one_line(error: ValidationError) -> str:
    """Return the first problem as one line: key, what is wrong, what was given."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "configuration"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{key}: there is no such key; see config.toml for those there are"
    secret = isinstance(first["input"], dict | BaseModel) or "tokens" in first["loc"]
    given = "" if secret else f" (given: {first['input']!r})"
    more = f"; and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    return f"{key}: {message}{given}{more}"
