"""The tables of the operator page: who is logged in, and what was done and is being done there."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.storage.tables import metadata, time_column

_ROLE = "role IN ('viewer', 'operator')"

page_session = Table(
    "page_session",
    metadata,
    # Of the id in the cookie: who reads the table cannot log in with it.
    Column("session_hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    time_column("created_at"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("session_hash"),
    CheckConstraint(_ROLE, name="role"),
)

page_link = Table(
    "page_link",
    metadata,
    Column("link_hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    time_column("spent_at", nullable=True),
    PrimaryKeyConstraint("link_hash"),
    CheckConstraint(_ROLE, name="role"),
)
"""Links that log in once"""

page_failure = Table(
    "page_failure",
    metadata,
    Column("network", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failed_at", DateTime(timezone=True), nullable=False),
    # The next login from there is looked at then.
    Column("free_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("network"),
)
"""Failed logins by network, of all replicas"""

# An act is committed with its row here, so that the same form sent twice does it once.
page_act = Table(
    "page_act",
    metadata,
    Column("act_id", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("words", Text, nullable=False),
    time_column("done_at"),
    PrimaryKeyConstraint("act_id"),
)
Index("page_act_done_at_idx", page_act.c.done_at)

page_job = Table(
    "page_job",
    metadata,
    Column("job_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("asked", JSONB, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False, server_default=text("0")),
    Column("results", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    Column("fault", Text),
    time_column("started_at"),
    time_column("beat_at"),
    time_column("ended_at", nullable=True),
    PrimaryKeyConstraint("job_id"),
)
Index("page_job_started_at_idx", page_job.c.started_at)
