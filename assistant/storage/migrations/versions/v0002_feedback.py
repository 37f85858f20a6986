"""What visitors thought of an answer. A database of the time before may have the table already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    if "feedback" not in sa.inspect(op.get_bind()).get_table_names():
        op.create_table(
            "feedback",
            sa.Column("conversation_id", sa.String(64), primary_key=True),
            sa.Column("message_id", sa.String(64), primary_key=True),
            sa.Column("topic", sa.Text, nullable=False),
            sa.Column("helpful", sa.Boolean, nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("given_at", sa.Float, nullable=False),
        )
