"""The stock project's action server: the form's validation as Rasa's documentation shows it."""

from __future__ import annotations

from typing import Any

from rasa_sdk import FormValidationAction, Tracker
from rasa_sdk.executor import CollectingDispatcher


class ValidateContactForm(FormValidationAction):
    """Checks the two slots of which something can be checked."""

    def name(self) -> str:
        """Return the name that Rasa calls."""
        return "validate_contact_form"

    def validate_contact_name(
        self, value: Any, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> dict[str, Any]:
        """Take a name of at least two letters."""
        return {"contact_name": value if len(str(value)) > 1 else None}

    def validate_contact_reach(
        self, value: Any, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> dict[str, Any]:
        """Take what has seven digits or an at sign."""
        digits = sum(character.isdigit() for character in str(value))
        return {"contact_reach": value if digits >= 7 or "@" in str(value) else None}
