"""Messages from messaging channels, whose turn it is, and the choices that were offered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "channel_senders",
        sa.Column("conversation_id", sa.String(64), primary_key=True),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("due_at", sa.Float),
        sa.Column("lease", sa.Text, nullable=False),
        sa.Column("leased_until", sa.Float, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("disclosed_at", sa.Float),
        sa.Column("private_id", sa.Text, nullable=False),
        sa.Column("private_until", sa.Float, nullable=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    op.create_index("ix_channel_senders_due_at", "channel_senders", ["due_at"])
    op.create_table(
        "channel_messages",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False, unique=True),
        sa.Column("conversation_id", sa.String(64), nullable=False),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("urgent", sa.Boolean, nullable=False),
        sa.Column("position", sa.Float, nullable=False),
        sa.Column("sealed", sa.Text),
        sa.Column("sealed_replies", sa.Text),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
    )
    op.create_index("channel_messages_of_sender", "channel_messages", ["conversation_id", "state"])
    op.create_index("channel_messages_by_state", "channel_messages", ["state", "received_at"])
    op.create_table(
        "channel_menus",
        sa.Column("conversation_id", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
    )
