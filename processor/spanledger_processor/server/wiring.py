"""The parts that a configuration describes: each function returns one, ready to use."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from spanledger_exporters.settings import ExporterSettings, FileSettings, NetworkSettings
from spanledger_processor.accounting.facts import LoopRule
from spanledger_processor.accounting.trace import tool_label
from spanledger_processor.config import Config
from spanledger_processor.config.grouping import Tenant
from spanledger_processor.config.limits import Budget
from spanledger_processor.config.processing import PriceOverride, Processor
from spanledger_processor.dialects import MARKERS, detect
from spanledger_processor.dialects.registry import SESSION_FIRST, SESSION_KEYS
from spanledger_processor.enrichment import Stage
from spanledger_processor.enrichment.attributes import alias_keys
from spanledger_processor.enrichment.facts import FactBuilder
from spanledger_processor.enrichment.logs import LogStage
from spanledger_processor.enrichment.names import Dimensions, IdResolver, KeyLists, LabelRule
from spanledger_processor.enrichment.redaction import Redactor
from spanledger_processor.ledger.budgets import BudgetRule
from spanledger_processor.ledger.dimensions import MODEL, PROVIDER
from spanledger_processor.ledger.facts import Lifecycle
from spanledger_processor.ledger.keys import bounded_id
from spanledger_processor.ledger.lmdb_store import LmdbStore
from spanledger_processor.ledger.store import Reader, tenant_hash
from spanledger_processor.ledger.warning_rules import WarningRules
from spanledger_processor.otlp.values import Attributes
from spanledger_processor.otlp.wire import MalformedError
from spanledger_processor.pricing import Override, Pricer, canonical_model, provider_name
from spanledger_processor.server.rate_limits import Minutes, RateLimits
from spanledger_processor.signing.key import SigningKeyUnavailableError, load_key
from spanledger_processor.signing.signer import Signer
from spanledger_processor.units import USD

log = logging.getLogger(__name__)

_HEADER = "header:"
NO_ATTRIBUTES = Attributes({})


class Group(Protocol):
    """Spans or log records of one resource."""

    @property
    def resource_attributes(self) -> Attributes: ...


def make_exporter_settings(config: Config, worker: int = 0) -> Mapping[str, ExporterSettings]:
    """Return the exporters' settings as one process uses them: with files of its own, and every queue's folder.

    `worker` is its number; from 1 on a file gets the number into its name, and a queue a folder inside the first one's,
    which takes over what is left there by a worker that runs no more.
    """
    return {name: _of_process(config, name, settings, worker) for name, settings in config.exporters.items()}


def _of_process(config: Config, name: str, settings: ExporterSettings, worker: int) -> ExporterSettings:
    if isinstance(settings, FileSettings) and worker:
        return settings.model_copy(update={"path": _numbered(settings.path, worker)})
    if not isinstance(settings, NetworkSettings):
        return settings
    queue = settings.sending_queue
    folder = Path(queue.storage or config.state.path / "queue" / quote(name, safe=""))
    update: dict[str, object] = {}
    if queue.storage is None or worker:
        storage = folder / f"worker-{worker + 1}" if worker else folder
        update["sending_queue"] = queue.model_copy(update={"storage": str(storage)})
    if settings.dead_letter and worker:
        update["dead_letter"] = _numbered(settings.dead_letter, worker)
    return settings.model_copy(update=update)


def _numbered(path: str, worker: int) -> str:
    given = Path(path)
    return str(given.with_name(f"{given.stem}.{worker + 1}{given.suffix}"))


def make_stage(config: Config, signer: Signer, pricer: Pricer | None = None) -> Stage:
    """Return the stage for traces; it prices by `pricer`, or by the configuration's own."""
    processor = config.processor
    resolver = make_id_resolver(processor, make_redactor(config, signer))
    builder = FactBuilder(detect, pricer or make_pricer(config), signer, resolver)
    aliases = alias_keys(processor.aliases)
    loop, budgets, watched = make_loop_rule(processor), make_budgets(processor), are_watched(config)
    return Stage(builder, MARKERS, make_tenant_of(processor), loop, aliases, budgets, watched=watched)


def make_log_stage(config: Config, signer: Signer) -> LogStage:
    """Return the stage for logs."""
    return LogStage(make_tenant_of(config.processor), signer.sign)


def make_redactor(config: Config, signer: Signer) -> Redactor | None:
    """Return the redactor of telemetry that is sent on; None where nothing is redacted."""
    redaction = config.processor.redaction
    return Redactor(redaction.modes, signer.pseudonym, redaction.truncate_to) if redaction.is_on else None


def make_signer(config: Config) -> Signer:
    """Return a signer with the configured key, else the one in the state folder, else one that ends with the process.

    Raises:
        SigningKeyError: there is a key that must not be used.
    """
    tools = config.processor.tools
    configured = tools.signing_key.get_secret_value() if tools.signing_key else None
    try:
        key, created = load_key(configured, os.environ, config.state.path)
    except SigningKeyUnavailableError as error:
        log.warning("tool signatures compare only until this process ends: no key can be kept. %s", error)
        key, created = secrets.token_bytes(32), False
    if created:
        log.warning(
            "made a signing key in %s: tool signatures compare only with those of this state folder; "
            "set SPANLEDGER_SIGNING_KEY to compare across machines",
            config.state.path,
        )
    return Signer(key, [(ignored.tool, frozenset(ignored.fields)) for ignored in tools.ignore])


def read_signing_key(config: Config) -> bytes | None:
    """Return the key that this configuration signs tool calls with; None where none can be kept.

    Raises:
        SigningKeyError: there is a key that must not be used.
    """
    configured = config.processor.tools.signing_key
    secret = configured.get_secret_value() if configured else None
    try:
        return load_key(secret, os.environ, config.state.path)[0]
    except SigningKeyUnavailableError:
        return None


def make_id_resolver(processor: Processor, redactor: Redactor | None = None) -> IdResolver:
    """Return what finds names by the configured keys; those of users are as redaction lets them through."""
    redact = {} if redactor is None else dict.fromkeys(processor.user_dimensions, redactor.user)
    labels = [
        LabelRule(one.agent or "", one.service or "", one.instance or "", one.project or "", one.label or "")
        for one in processor.sessions.labels
    ]
    first = SESSION_FIRST if tuple(processor.sessions.keys) == SESSION_KEYS else {}
    return IdResolver(_key_lists(processor), Dimensions(processor.dimensions, redact), labels, first)


def _key_lists(processor: Processor) -> KeyLists:
    return KeyLists(
        session=processor.sessions.keys,
        session_parent=processor.sessions.parent_keys,
        run=processor.runs.keys,
        agent=processor.agents.keys,
        agent_parent=processor.agents.parent_keys,
        task_id=processor.tasks.id_keys,
        task_kind=processor.tasks.kind_keys,
        instance=("service.instance.id",),
        agent_name=processor.agents.name_keys,
        service=("service.name",),
    )


def link_keys(processor: Processor) -> tuple[str, ...]:
    """Return the attributes of plain spans and of resources that name a session, run, agent, task or tenant."""
    lists = asdict(_key_lists(processor)).values()
    tenants = [key for key in processor.tenant.keys if not key.startswith(_HEADER)]
    dimensions = [key for keys in Dimensions(processor.dimensions).attributes.values() for key in keys]
    return tuple(sorted({key for keys in lists for key in keys}.union(tenants, dimensions)))


def make_budgets(processor: Processor) -> tuple[BudgetRule, ...]:
    """Return the budgets as rules."""
    return tuple(
        BudgetRule(
            budget.name,
            int(budget.amount * USD),
            budget.period,
            budget.days or 0,
            budget.dimension or "",
            _value_of(budget),
            b"" if budget.tenant is None else tenant_hash(budget.tenant),
            tuple(sorted(budget.thresholds)),
            budget.forecast,
        )
        for budget in processor.budgets
    )


def _value_of(budget: Budget) -> str:
    """Return the value as the ledger has it: the one name of a provider, or of a model, behind its provider's."""
    value = bounded_id(budget.value or "")
    if budget.dimension == PROVIDER:
        return provider_name(value)
    if budget.dimension != MODEL or value.startswith(tool_label("")):
        return value
    provider, separator, model = value.partition("/")
    return f"{provider_name(provider)}/{canonical_model(model)}" if separator else canonical_model(value)


def make_warnings(processor: Processor) -> WarningRules:
    """Return the rules of warnings."""
    failures, unpriced, rise = (
        processor.warnings.failure_rate,
        processor.warnings.unpriced_share,
        processor.warnings.cost_rise,
    )
    return WarningRules(
        (failures.threshold, failures.minimum) if failures.enabled else None,
        (unpriced.threshold, unpriced.minimum) if unpriced.enabled else None,
        (rise.factor, int(rise.minimum * USD)) if rise.enabled else None,
    )


def summary_wait(config: Config) -> float | None:
    """Return after how many seconds without a span the summary of an ended session is sent; None: none is.

    None, too, where no exporter takes traces or logs, as beside the Collector's component.
    """
    summary = config.processor.sessions.summary
    taken = {signal for settings in config.exporters.values() for signal in settings.takes}
    return summary.wait_duration if summary.enabled and taken & {"traces", "logs"} else None


def are_watched(config: Config) -> bool:
    """Return whether summaries of ended sessions are sent, or sessions are warned of."""
    return summary_wait(config) is not None or make_warnings(config.processor).of_sessions


def make_lifecycle(processor: Processor) -> Lifecycle:
    """Return when a session ceases to be active, and to be idle."""
    lifecycle = processor.sessions.lifecycle
    return Lifecycle(round(lifecycle.active * 1e9), round(lifecycle.idle * 1e9))


def make_loop_rule(processor: Processor) -> LoopRule:
    """Return the rule by which a tool call completes a loop."""
    loop = processor.tools.loop
    tools = tuple(
        (
            one.tool,
            loop.consecutive if one.consecutive is None else one.consecutive,
            loop.repeats if one.repeats is None else one.repeats,
            loop.cycles if one.cycles is None else one.cycles,
        )
        for one in loop.tools
    )
    window_ns, gap_ns = round(loop.window * 1e9), round(loop.gap * 1e9)
    return LoopRule(loop.consecutive, loop.repeats, window_ns, loop.cycles, loop.calls, tools, gap_ns)


@contextmanager
def ledger_beside(config: Config) -> Iterator[Reader]:
    """Open a snapshot of the ledger that another process writes."""
    store = open_store(config, read_only=True)
    try:
        with store.snapshot() as reader:
            yield reader
    finally:
        store.close()


class Tenants:
    """Finds the tenant of a group of spans by `processor.tenant`: the first of the configured keys that is present."""

    def __init__(self, settings: Tenant) -> None:
        self._default = settings.default
        self._required = settings.required
        headers = [key for key in settings.keys if key.startswith(_HEADER)]
        self._keys = tuple(headers if headers and settings.required else settings.keys)
        self._by_header = bool(headers) and settings.required

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a request whose headers have to name its tenant, and do not.

        Raises:
            MalformedError: they name none, or several.
        """
        if self._by_header:
            self._find(NO_ATTRIBUTES, headers)

    def by_headers(self, headers: Mapping[str, str]) -> bytes:
        """Return the hash of the tenant that headers name, of the default one where they name none."""
        return tenant_hash(self._find(NO_ATTRIBUTES, headers))

    def __call__(self, group: Group, headers: Mapping[str, str]) -> str:
        """Return the name of a group's tenant.

        Raises:
            MalformedError: one is required, and none is named, or several.
        """
        return self._find(group.resource_attributes, headers)

    def _find(self, resource: Attributes, headers: Mapping[str, str]) -> str:
        for key in self._keys:
            of_header = key.startswith(_HEADER)
            value = headers.get(key[len(_HEADER) :]) if of_header else resource.get(key)
            if value is None or value == "":
                continue
            if of_header and "," in str(value):
                return self._without("several tenants")
            if of_header and not str(value).isprintable():
                return self._without("no tenant that can be printed")
            return str(value)
        return self._without("no tenant")

    def _without(self, named: str) -> str:
        if self._required:
            raise MalformedError(f"the request names {named}; one is required ({', '.join(self._keys)})")
        return self._default


def make_tenant_of(processor: Processor) -> Tenants:
    """Return what finds the tenant of a group of spans."""
    return Tenants(processor.tenant)


def make_rate_limits(
    processor: Processor, count: Callable[[bytes], Awaitable[bytes]] | None = None
) -> RateLimits | None:
    """Return the rate limits of senders or tenants, counted by `count` for all workers; None without limits."""
    settings = processor.rate_limits
    limits = RateLimits(settings, make_tenant_of(processor).by_headers, Minutes(settings), count)
    return limits if limits.on or limits.names_on else None


def make_pricer(config: Config) -> Pricer:
    """Return a pricer in which the configured overrides take precedence."""
    prices = [(one.tool, int(one.usd * USD), one.name or one.tool) for one in config.processor.tools.prices]
    return Pricer([_override(override) for override in config.processor.pricing.overrides], tools=prices)


def _override(given: PriceOverride) -> Override:
    return Override(
        given.model,
        provider=given.provider or "",
        valid_from=given.valid_from,
        input=given.input,
        output=given.output,
        cache_read=given.cache_read,
        cache_write=given.cache_write,
        cache_write_1h=given.cache_write_1h,
        name=given.name or "",
        classes=given.classes,
    )


def open_store(config: Config, *, read_only: bool = False) -> LmdbStore:
    """Return the store of the configured state folder; read-only, it works beside the process that writes.

    Raises:
        StateLockedError: another process writes to it.
        StateError: it cannot be opened.
    """
    state = config.state
    return LmdbStore.open(
        state.path,
        max_size_mib=state.max_size_mib,
        durability=state.durability,
        retention_ns=round(state.retention.spans * 1e9),
        sessions_retention_ns=round(state.retention.sessions * 1e9),
        read_only=read_only,
    )
