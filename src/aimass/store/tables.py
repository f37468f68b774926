"""Every table. What is in them is set down by the migrations beside this file; a test holds the two equal.

Times are Unix seconds, money is whole micro-units of the plan's currency, and ids sort by time (`core/ids.py`).
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = JSON(none_as_null=True)  # None is the database's own null, so that IS NULL finds it


def _id(length: int = 64) -> Column[str]:
    return Column("id", String(length), primary_key=True)


def _project() -> Column[str]:
    return Column("project_id", String(64), ForeignKey("projects.id"), nullable=False)


# ---------------------------------------------------------------------------------------------------- who may do what

projects = Table(
    "projects", metadata, _id(), Column("name", String(128), nullable=False, unique=True), Column("created", Float, nullable=False)
)

keys = Table(
    "keys",
    metadata,
    _id(),  # the public part of the key
    _project(),
    Column("name", String(128), nullable=False),
    Column("role", String(16), nullable=False),  # admin, member, inference
    Column("hash", String(64), nullable=False),  # SHA-256 of the secret part, in hex
    Column("created", Float, nullable=False),
    Column("revoked", Float),
)

revisions = Table(  # what caches of keys and deployments watch: the number grows in the transaction of every change
    "revisions", metadata, Column("name", String(32), primary_key=True), Column("number", BigInteger, nullable=False)
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("project_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("status", Integer),  # null while the first request is under way
    Column("headers", Json),
    Column("body", LargeBinary),
    Column("created", Float, nullable=False, index=True),
    Column("lease_until", Float, nullable=False),
)

# ------------------------------------------------------------------------------------------------------------ bytes

files = Table(
    "files",
    metadata,
    _id(),
    _project(),
    Column("filename", String(512), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("created", Float, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    _id(),
    _project(),
    Column("name", String(128), nullable=False),
    Column("file_id", String(64)),  # null for a sample that ships with a library
    Column("sample", String(64)),
    Column("sha256", String(64)),
    Column("suffix", String(16), nullable=False, server_default=""),
    Column("settings", Json, nullable=False),  # the arguments of `aimass.data.load` beside the path
    Column("description", Json, nullable=False),  # what `aimass.data.describe` told
    Column("created", Float, nullable=False),
)

# ------------------------------------------------------------------------------------------------------------- jobs

jobs = Table(
    "jobs",
    metadata,
    _id(),
    _project(),
    Column("dataset_id", String(64), ForeignKey("datasets.id"), nullable=False),
    Column("model", String(128), nullable=False),  # the name under which the registry keeps the result
    Column("config", Json, nullable=False),  # a TrainConfig
    Column("cpus", Float, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("state", String(24), nullable=False, index=True),
    Column("error", Json),  # {message, code} of the end
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("epoch", Integer, nullable=False, default=0),  # grows with every claim; only its holder may write
    Column("deaths", Integer, nullable=False, default=0),  # in a row, without a new checkpoint between
    Column("owner", String(128)),  # the service that holds the lease
    Column("lease_until", Float),
    Column("driver", Json),  # {host, boot, pid, started} of the driver's process
    Column("epoch_started", Float),
    Column("metered_until", Float),  # up to when the present epoch's compute is in the usage events
    Column("run_id", String(64)),
    Column("progress", Json),  # the newest figures, for lists
    Column("metrics", Json),  # of the end
    Column("version_id", String(64)),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("run", String(64), nullable=False),
    Column("time", Float, nullable=False),
    Column("type", String(64), nullable=False),
    Column("data", Json, nullable=False),
)

# --------------------------------------------------------------------------------------------------------- registry

models = Table(
    "models",
    metadata,
    _id(),
    _project(),
    Column("name", String(128), nullable=False),
    Column("created", Float, nullable=False),
    Column("newest", Integer, nullable=False),  # the highest number given so far; never given again
    UniqueConstraint("project_id", "name"),
)

versions = Table(
    "versions",
    metadata,
    _id(),
    Column("model_id", String(64), ForeignKey("models.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("files", Json, nullable=False),  # {path: {"sha256": ..., "bytes": ...}}
    Column("bytes", BigInteger, nullable=False),
    Column("signature", Json, nullable=False),
    Column("card", Json, nullable=False),
    Column("lineage", Json, nullable=False),  # {file, sha256, dataset, job, run, start_from}
    UniqueConstraint("model_id", "number"),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model_id", String(64), ForeignKey("models.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("updated", Float, nullable=False),
)

# ---------------------------------------------------------------------------------------------------------- serving

deployments = Table(
    "deployments",
    metadata,
    _id(),
    _project(),
    Column("name", String(128), nullable=False),  # what requests call it
    Column("model", String(128), nullable=False),  # what the registry calls it
    Column("version", Integer, nullable=False),
    Column("version_id", String(64), ForeignKey("versions.id"), nullable=False),
    Column("settings", Json, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    UniqueConstraint("project_id", "name"),
)

engine_events = Table(  # the history of the Prediction Engines
    "engine_events",
    metadata,
    _id(),
    Column("service", String(128), nullable=False),
    Column("engine", String(64), nullable=False, index=True),
    Column("time", Float, nullable=False),
    Column("type", String(32), nullable=False),  # started, ready, loaded, evicted, lost, stopped
    Column("data", Json, nullable=False),
)

# ---------------------------------------------------------------------------------------------------------- billing

usage_logs = Table(
    "usage_logs",
    metadata,
    Column("incarnation", String(64), primary_key=True),
    Column("path", String(1024), nullable=False),
    Column("position", BigInteger, nullable=False, default=0),  # bytes of the log that are in the ledger
    Column("unmarked", Json, nullable=False),  # {sequence: event} of charges up to there that are neither sent nor credited
    Column("opened", Float, nullable=False),
    Column("closed", Float),  # when its gateway had left and everything in it was posted
    Column("owner", Json, nullable=False),  # {host, boot, pid, started} of the gateway
)

usage_events = Table(
    "usage_events",
    metadata,
    Column("id", String(128), primary_key=True),  # the same id is never charged twice, for ever
    _project(),
    Column("key_id", String(64)),
    Column("kind", String(32), nullable=False),  # prediction, training
    Column("item", String(128), nullable=False),  # what the price plan calls it
    Column("model", String(128), nullable=False),
    Column("version", Integer),
    Column("quantity", BigInteger, nullable=False),  # rows, or milliseconds of a worker
    Column("unit", String(32), nullable=False),
    Column("time", Float, nullable=False),
    Column("price_id", String(64), nullable=False),
    Column("amount_micro", BigInteger, nullable=False),
    Column("transaction_id", String(64), ForeignKey("transactions.id"), nullable=False, index=True),
    Column("incarnation", String(64)),
    Column("request_id", String(128)),
    Column("in_doubt", Boolean, nullable=False, default=False),  # recorded, and not known to have been sent
    Column("credited", Boolean, nullable=False, default=False),
    Column("data", Json),
    Index("ix_usage_events_project_id_time", "project_id", "time"),
)

transactions = Table(  # of the ledger; the entries of each add up to nothing
    "transactions",
    metadata,
    _id(),
    Column("kind", String(32), nullable=False),  # usage, credit, reserve, release
    Column("reference", String(255), nullable=False, unique=True),
    Column("time", Float, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("transaction_id", String(64), ForeignKey("transactions.id"), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("account", String(160), nullable=False),
    Column("amount_micro", BigInteger, nullable=False),  # debits above zero, credits below
    Column("time", Float, nullable=False),
    Index("ix_entries_account_time", "account", "time"),
)

prices = Table(
    "prices",
    metadata,
    _id(),
    Column("item", String(128), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("micro_per_million", BigInteger, nullable=False),  # micro-units of money for a million units
    Column("currency", String(8), nullable=False),
    Column("valid_from", Float, nullable=False),
    UniqueConstraint("item", "valid_from"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("project_id", String(64), ForeignKey("projects.id"), primary_key=True),
    Column("limit_micro", BigInteger, nullable=False),
    Column("period", String(16), nullable=False),  # month, total
    Column("updated", Float, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    _id(),
    _project(),
    Column("holder", String(128), nullable=False),
    Column("amount_micro", BigInteger, nullable=False),  # what is left of it
    Column("expires", Float, nullable=False, index=True),
)

for _table in metadata.tables.values():
    if {"project_id", "id"} <= set(_table.c.keys()) and _table is not usage_events:  # which are listed by time
        Index(None, _table.c.project_id, _table.c.id)  # a project's list, a page at a time
