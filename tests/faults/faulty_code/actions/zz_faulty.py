"""Actions that fail when a file says so. They take the place of those whose name they have."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.contact_form.finish import FinishContactRequest
from actions.repeat import ActionRepeat


def _ordered() -> str:
    try:
        return Path(os.environ["FAULTY_ACTIONS"]).read_text().strip()
    except FileNotFoundError:
        return ""


class FaultyRepeat(ActionRepeat):
    """Repeats, unless told to do something else."""

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Do what the file orders."""
        order = _ordered()
        if order == "raise":
            raise RuntimeError("broken on purpose")
        if order == "hang":
            await asyncio.sleep(3600)
        if order == "exit":
            raise SystemExit(3)
        if order == "nothing":
            return []
        if order == "garbage":
            return "not a list of events"  # type: ignore[return-value]
        return await super().run(dispatcher, tracker, domain)


class FaultyFinish(FinishContactRequest):
    """Finishes the contact form, unless told to do something else."""

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Do what the file orders."""
        done = await super().run(dispatcher, tracker, domain)
        if _ordered() == "raise":
            raise RuntimeError("broken on purpose, after the work was done")
        if _ordered() == "hang":
            await asyncio.sleep(3600)
        return done
