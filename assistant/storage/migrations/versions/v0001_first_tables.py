"""The first tables. A database of the time before migrations has some of them already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    present = sa.inspect(op.get_bind()).get_table_names()
    if "ended_sessions" not in present:
        op.create_table(
            "ended_sessions",
            sa.Column("conversation_id", sa.String(64), primary_key=True),
            sa.Column("expires_at", sa.Float, nullable=False),
        )
    if "red_flag_counts" not in present:
        op.create_table(
            "red_flag_counts",
            sa.Column("day", sa.Text, primary_key=True),
            sa.Column("rule", sa.Text, primary_key=True),
            sa.Column("level", sa.Text, primary_key=True),
            sa.Column("count", sa.Integer, nullable=False),
        )
    op.create_table(
        "contact_drafts",
        sa.Column("conversation_id", sa.Text, primary_key=True),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("sealed", sa.Text),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
    op.create_table(
        "contact_requests",
        sa.Column("number", sa.Text, primary_key=True),
        sa.Column("idempotency_key", sa.Text, nullable=False, unique=True),
        sa.Column("conversation_id", sa.Text, index=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sealed", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "contact_status_history",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "number",
            sa.Text,
            sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("message_id", sa.Text, primary_key=True),
        sa.Column(
            "number",
            sa.Text,
            sa.ForeignKey("contact_requests.number", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("next_attempt_at", sa.Float, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.UniqueConstraint("number", "target", "event"),
    )
    op.create_index("outbox_due", "outbox", ["state", "next_attempt_at"])
    op.create_table(
        "privacy_receipts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("drafts", sa.Integer, nullable=False),
        sa.Column("events", sa.Integer, nullable=False),
    )
