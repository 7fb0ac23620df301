"""The model of the whole configuration, valid, and of its sections `state`, `api`, `telemetry` and `sidecar`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from spanledger_exporters.interface import Signal
from spanledger_exporters.settings import (
    TYPES,
    DebugSettings,
    Duration,
    ExporterSettings,
    FileSettings,
    Headers,
    OtlpGrpcSettings,
    OtlpHttpSettings,
    Url,
)
from spanledger_processor.config.processing import Processor
from spanledger_processor.config.receivers import Auth, EnricherSettings, Grpc, Http, Protocols, Receivers, ServerTls
from spanledger_processor.config.section import NULL_IS_DEFAULT, Count, Endpoint, NamedSections, Section, host_and_port


def _named(given: Any) -> Any:
    """Return headers as a mapping, which the Collector writes as a list of `name` and `value`."""
    if isinstance(given, list) and all(isinstance(each, dict) and set(each) == {"name", "value"} for each in given):
        return {each["name"]: each["value"] for each in given}
    return given


class OwnOtlp(Section):
    """Where it goes by OTLP."""

    protocol: Literal["http/protobuf", "grpc"] = Field(default="http/protobuf", description="http/protobuf or grpc.")
    endpoint: Url = Field(
        description="URL. Over HTTP `/v1/metrics` or `/v1/traces` is added to one without a path; over gRPC https:// "
        "means TLS."
    )
    headers: Annotated[Mapping[str, SecretStr], BeforeValidator(_named)] = Field(
        default_factory=dict, description="Sent with every request; a list of `name` and `value`, or a section."
    )
    compression: Literal["gzip", "none"] = Field(default="gzip", description="gzip or none.")
    timeout: Count = Field(default=10000, description="Milliseconds for one attempt.")

    def settings(self, signal: Signal) -> ExporterSettings:
        """Return the settings of an exporter that sends there."""
        headers: Headers = self.headers
        shared = {"headers": headers, "compression": self.compression, "timeout": f"{self.timeout}ms"}
        if self.protocol == "grpc":
            return OtlpGrpcSettings.model_validate({"endpoint": self.endpoint, **shared})
        whole = urlsplit(self.endpoint).path not in ("", "/")
        key = f"{signal}_endpoint" if whole else "endpoint"
        return OtlpHttpSettings.model_validate({key: self.endpoint, "signals": [signal], **shared})


class OwnExporter(Section):
    """The exporter of a reader or a processor."""

    otlp: OwnOtlp = Field(description="OTLP, the only one.")


class Periodic(Section):
    """Metrics, every so often."""

    interval: Count = Field(default=60000, description="Milliseconds between two exports.")
    exporter: OwnExporter = Field(description="Where they go.")


class MetricReader(Section):
    """One way out for metrics."""

    periodic: Periodic = Field(description="Pushed; `/metrics` is there to be scraped beside it.")


class OwnMetrics(Section):
    """Metrics by OTLP: those of `/metrics`."""

    readers: tuple[MetricReader, ...] = Field(default=(), description="Ways out; none: only `/metrics`.")


class BatchSettings(Section):
    """Spans in batches."""

    schedule_delay: Count = Field(default=5000, description="Milliseconds between two exports.")
    max_queue_size: Count = Field(default=2048, description="Spans kept until then; what is more is left out.")
    exporter: OwnExporter = Field(description="Where they go.")


class SpanProcessor(Section):
    """One way out for spans."""

    batch: BatchSettings = Field(description="In batches.")


class OwnTraces(Section):
    """A span for each request received, and below it one for each exporter's answer. No content is in them."""

    processors: tuple[SpanProcessor, ...] = Field(default=(), description="Ways out; none: no spans are made.")


class OwnTelemetry(Section):
    """Spanledger about itself."""

    resource: Mapping[str, str] = Field(
        default_factory=dict, description="Resource attributes, over `service.name`, `.version` and `.instance.id`."
    )
    metrics: Annotated[OwnMetrics, NULL_IS_DEFAULT] = Field(default_factory=OwnMetrics, description="Metrics by OTLP.")
    traces: Annotated[OwnTraces, NULL_IS_DEFAULT] = Field(default_factory=OwnTraces, description="Traces by OTLP.")

    @property
    def destinations(self) -> list[tuple[Signal, OwnOtlp]]:
        """Return each place that metrics or traces go to."""
        metrics = [reader.periodic.exporter.otlp for reader in self.metrics.readers]
        traces = [processor.batch.exporter.otlp for processor in self.traces.processors]
        return [*(("metrics", otlp) for otlp in metrics), *(("traces", otlp) for otlp in traces)]


def _of_the_user(path: Path) -> Path:
    return path.expanduser()


class SidecarSource(Section):
    """One kind of files."""

    roots: tuple[Annotated[Path, AfterValidator(_of_the_user)], ...] = Field(
        default=(),
        description="Homes to read; default: where the agent itself keeps its files, also when that is made or moved.",
    )
    grain: Literal["auto", "usage"] = Field(
        default="auto", description="`auto`: the finest that the files have. `usage`: chat files are never opened."
    )


class SidecarSources(NamedSections):
    """The kinds of files that are read: only those named here. One that is named and left empty has its defaults."""

    mux: SidecarSource | None = Field(default=None, description="Mux and Xum.")
    tilth: SidecarSource | None = Field(default=None, description="tilth.")


class SidecarSettings(Section):
    """Usage files of agents as a source."""

    sources: Annotated[SidecarSources, NULL_IS_DEFAULT] = Field(
        default_factory=SidecarSources, description="The kinds of files that are read: only those named here."
    )
    backfill: bool = Field(
        default=False, description="At a source's first run, take all that is there; otherwise that counts as old."
    )
    since: date | None = Field(
        default=None, description="At a source's first run, take what is there from this UTC day on; default: nothing."
    )

    @model_validator(mode="after")
    def _one_beginning(self) -> SidecarSettings:
        if self.backfill and self.since is not None:
            raise ValueError("backfill and since: use one of them")
        return self


def state_folder(environ: Mapping[str, str]) -> Path:
    """Return the default folder for state: the user's state folder (XDG base directories)."""
    base = environ.get("XDG_STATE_HOME", "")
    home = Path(base) if Path(base).is_absolute() else Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    return home / "spanledger"


class Retention(Section):
    """How long records stay, by arrival."""

    spans: Duration = Field(
        default=24 * 3600.0,
        ge=1,
        description="How long a counted span is remembered: a repeat that comes later would count again.",
    )
    sessions: Duration = Field(
        default=90 * 86400.0, ge=1, description="How long a session or run stays in the ledger after its last span."
    )


class State(Section):
    """Where the ledger is kept."""

    path: Path = Field(
        default_factory=lambda: state_folder(os.environ),
        description="Folder of the ledger and the signing key, on a local disk; made with mode 0700 if need be.",
        json_schema_extra={"default": "`$XDG_STATE_HOME/spanledger`, else `~/.local/state/spanledger`"},
    )
    max_size_mib: Count = Field(
        default=4096,
        description="Most that the ledger takes on disk. Near it, spans are remembered for less than "
        "`state.retention.spans`; when it is full, the oldest sessions are removed and their sums stay. Spans go on as "
        "`not_accounted` only while there is nothing left to remove.",
    )
    durability: Literal["sync", "async"] = Field(
        default="sync",
        description="`sync`: on disk before a sender is answered. `async`: written out every second; a crash or a "
        "power cut may lose the last second, and never damages the ledger.",
    )
    retention: Annotated[Retention, NULL_IS_DEFAULT] = Field(
        default_factory=Retention, description="How long records stay, by arrival."
    )

    @field_validator("path", mode="before")
    @classmethod
    def _somewhere(cls, path: Any) -> Any:
        if path is None or (isinstance(path, str) and not path.strip()):
            raise ValueError("should be a folder; leave it out for the user's state folder")
        if isinstance(path, str) and "\0" in path:
            raise ValueError("holds a character that no path can hold")
        return path

    @field_validator("path")
    @classmethod
    def _of_the_user(cls, path: Path) -> Path:
        return path.expanduser()


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ValueError("write a name alone, such as ledger.example.com, without scheme and port")
    return name


class HealthCheck(Section):
    """`/livez`, `/readyz` and `/metrics` on a listener of their own, in plain text and without a token."""

    endpoint: Endpoint = Field(default="127.0.0.1:13133", description="host:port to listen on.")


class ApiSettings(Section):
    """The HTTP API, `/metrics`, `/livez` and `/readyz`."""

    endpoint: Endpoint = Field(default="127.0.0.1:4320", description="host:port to listen on.")
    tls: ServerTls | None = Field(default=None, description="Transport security; default: plain text.")
    auth: Annotated[Auth, NULL_IS_DEFAULT] = Field(
        default_factory=Auth, description="Who may ask, also for `/metrics`; `/livez` and `/readyz` ask for no token."
    )
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = Field(
        default=(),
        description="Names that the API may be asked for under, besides addresses, names without a dot and those that "
        "end in `.localhost`, `.internal`, `.svc` or `.svc.cluster.local`: any other `Host` is refused, since by DNS "
        "rebinding a web page could ask under a name of its own. Not looked at where a token is demanded.",
    )
    health_check: HealthCheck | None = Field(
        default=None,
        description="`/livez`, `/readyz` and `/metrics` on a listener of their own, in plain text and without a token, "
        "and no longer at `endpoint`; default: at `endpoint`. Named and left empty: 127.0.0.1:13133.",
    )
    ready_requires_ledger: bool = Field(
        default=False,
        description="`/readyz` is 503 while the ledger cannot be written; false: spans pass as `not_accounted`, and "
        "it stays ready.",
    )

    @model_validator(mode="before")
    @classmethod
    def _named_runs(cls, given: Any) -> Any:
        if isinstance(given, dict) and "health_check" in given and given["health_check"] is None:
            return {**given, "health_check": {}}
        return given


_ID = re.compile(r"(?P<type>[A-Za-z][\w-]*)(?:/(?P<name>\S.*))?", re.ASCII)


class Config(Section):
    """The whole configuration."""

    receivers: Annotated[Receivers, NULL_IS_DEFAULT] = Field(
        default_factory=Receivers, description="Where telemetry comes in."
    )
    exporters: Mapping[str, SerializeAsAny[ExporterSettings]] = Field(
        default_factory=lambda known: _exporters_of(known),
        description="Where it goes: component id (`type` or `type/name`) to settings; each gets every signal it takes.",
        json_schema_extra={
            "default": "`debug`, and `file` with the path `<state.path>/spans.jsonl`; none where `receivers.enricher` "
            "is the only receiver"
        },
    )
    processor: Annotated[Processor, NULL_IS_DEFAULT] = Field(
        default_factory=Processor, description="What is made of GenAI spans."
    )
    state: Annotated[State, NULL_IS_DEFAULT] = Field(default_factory=State, description="Where the ledger is kept.")
    api: Annotated[ApiSettings, NULL_IS_DEFAULT] = Field(
        default_factory=ApiSettings, description="The HTTP API, `/metrics`, `/livez` and `/readyz`."
    )
    telemetry: Annotated[OwnTelemetry, NULL_IS_DEFAULT] = Field(
        default_factory=OwnTelemetry,
        description="Spanledger about itself by OTLP, off unless a reader or a processor is named. `/metrics` stays.",
    )
    sidecar: Annotated[SidecarSettings, NULL_IS_DEFAULT] = Field(
        default_factory=SidecarSettings,
        description="Usage files of agents as a source. (`spanledger sidecar` does the same from another machine.)",
    )

    @field_validator("exporters", mode="before")
    @classmethod
    def _by_type(cls, given: Any) -> Any:
        if not given:
            raise ValueError("name at least one exporter, or leave exporters out for debug and file")
        if not isinstance(given, Mapping):
            return given
        valid: dict[str, ExporterSettings] = {}
        problems: list[InitErrorDetails] = []
        for component, settings in given.items():
            try:
                valid[component] = _exporter(component, settings)
            except ValidationError as error:
                problems += [_below(component, problem) for problem in error.errors(include_url=False)]
            except ValueError as error:
                problems.append(_below(component, {"type": "value_error", "msg": str(error), "loc": ()}))
        if problems:
            raise ValidationError.from_exception_data("exporters", problems, hide_input=True)
        return valid

    @model_validator(mode="after")
    def _apart(self) -> Config:
        taken: dict[str, str] = {}
        for path, listener in self.listeners.items():
            if listener.endpoint.startswith("unix:") or host_and_port(listener.endpoint)[1] == 0:
                continue
            first = taken.setdefault(listener.endpoint, path)
            if first != path:
                raise ValueError(f"{path}.endpoint: {first} listens on {listener.endpoint} already")
        return self

    @model_validator(mode="after")
    def _something_to_deliver_to(self) -> Config:
        if not self.exporters and any(source is not None for _, source in self.sidecar.sources):
            raise ValueError("sidecar.sources: name an exporter; the enricher alone sends nothing on")
        return self

    @model_validator(mode="after")
    def _budgets_count_what_is_kept(self) -> Config:
        """Refuse a budget that would lose days: sums by a dimension go as sessions do, those by model stay."""
        kept = max(self.state.retention.sessions, self.state.retention.spans)
        for budget in self.processor.budgets:
            days = {"day": 1, "week": 7, "month": 31, "rolling": budget.days or 0}.get(budget.period, 0)
            if budget.dimension not in (None, "model", "provider") and days * 86400 > kept:
                raise ValueError(
                    f"processor.budgets: {budget.name}: spend by {budget.dimension} is kept for "
                    f"state.retention.sessions, which has to be {days} days or more"
                )
        return self

    @model_validator(mode="after")
    def _files_name_no_tenant(self) -> Config:
        tenant = self.processor.tenant
        by_header = any(key.startswith("header:") for key in tenant.keys)
        if tenant.required and by_header and any(source is not None for _, source in self.sidecar.sources):
            raise ValueError(
                "processor.tenant.required: files have no headers; run `spanledger sidecar`, which sends them, and "
                "leave sidecar.sources out"
            )
        return self

    @model_validator(mode="after")
    def _nothing_passes_unredacted(self) -> Config:
        if self.receivers.enricher is not None and self.processor.redaction.is_on:
            raise ValueError(
                "processor.redaction: the Collector component only takes attributes to append, so content would pass; "
                "remove it in the Collector, or send through receivers.otlp and leave receivers.enricher out"
            )
        return self

    @property
    def listeners(self) -> Mapping[str, Grpc | Http | EnricherSettings | ApiSettings | HealthCheck]:
        """Return what listens, by configuration path."""
        otlp = self.receivers.otlp
        protocols = Protocols.model_construct(grpc=None, http=None) if otlp is None else otlp.protocols
        listeners = {
            "receivers.otlp.protocols.grpc": protocols.grpc,
            "receivers.otlp.protocols.http": protocols.http,
            "receivers.enricher": self.receivers.enricher,
            "api": self.api,
            "api.health_check": self.api.health_check,
        }
        return {path: listener for path, listener in listeners.items() if listener is not None}


def _exporters_of(known: dict[str, Any]) -> dict[str, ExporterSettings]:
    """Return the exporters of a configuration that names none; the Collector component delivers by itself."""
    receivers = known.get("receivers")
    return {} if receivers is not None and receivers.otlp is None else default_exporters(state_folder(os.environ))


def default_exporters(state: Path) -> dict[str, ExporterSettings]:
    """Return the default exporters: lines on the terminal, and everything in a file."""
    return {
        "debug": DebugSettings.model_validate({}),
        "file": FileSettings.model_validate({"path": str(state / "spans.jsonl")}),
    }


def _exporter(component: object, settings: object) -> ExporterSettings:
    match = _ID.fullmatch(component) if isinstance(component, str) else None
    if match is None:
        raise ValueError("a component id is written type or type/name, such as otlp_grpc/tempo")
    kind = match["type"]
    if kind not in TYPES:
        near = difflib.get_close_matches(kind, TYPES, n=1)
        guess = f", did you mean {near[0]}?" if near else "."
        raise ValueError(f"unknown exporter type {kind}{guess} Known: {', '.join(TYPES)}")
    return TYPES[kind].model_validate({} if settings is None else settings)


def _below(component: object, problem: Any) -> InitErrorDetails:
    """Return the same problem, with its location seen from one level further out."""
    reported = PydanticCustomError(problem["type"], "{message}", {**problem.get("ctx", {}), "message": problem["msg"]})
    return InitErrorDetails(type=reported, loc=(str(component), *problem["loc"]), input=None)
