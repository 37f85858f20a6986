"""All staff pages as one blueprint."""

from __future__ import annotations

from sanic import Blueprint
from sqlalchemy.engine import Engine

from assistant.settings import Settings
from assistant.staff.content_routes import add_content
from assistant.staff.guard import Guard
from assistant.staff.numbers import add_numbers
from assistant.staff.office import add_office
from assistant.staff.requests import add_requests
from assistant.staff.sign_in import add_sign_in
from assistant.staff.today import add_today


def staff_guard(engine: Engine, settings: Settings) -> Guard:
    """Declare all routes; the guard holds them and the blueprint.

    Args:
        engine: the database, with our tables.
        settings: keys, retention, targets, ...
    """
    guard = Guard(engine, settings)
    add_today(guard, engine, settings)
    add_requests(guard, engine, settings)
    add_numbers(guard, engine, settings)
    add_office(guard, engine, settings)
    add_content(guard, engine, settings)
    add_sign_in(guard, engine, settings)
    return guard


def staff_blueprint(engine: Engine, settings: Settings) -> Blueprint:
    """Return the pages at `/staff`. While there is no account, each of them is a 404."""
    return staff_guard(engine, settings).blueprint
