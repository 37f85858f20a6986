"""The next action by rules: Rasa's own policy, with less work for the same result."""

from __future__ import annotations

from typing import Any

from rasa.core.policies.rule_policy import RULES, RULES_FOR_LOOP_UNHAPPY_PATH, RulePolicy
from rasa.shared.core.domain import Domain, State
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.shared.nlu.constants import TEXT


class IntentRules(RulePolicy):
    """Rasa's `RulePolicy` for a trained model whose rules begin with intents.

    Rasa first looks for a rule that begins with the very text, though no rule does, and compares each
    rule with all states of a conversation, though none is longer than a few.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        keys = [*self.lookup.get(RULES, {}), *self.lookup.get(RULES_FOR_LOOP_UNHAPPY_PATH, {})]
        rules = [self._rule_key_to_state(key) for key in keys]
        self._longest = max(map(len, rules), default=1)
        self._reads_texts = any(TEXT in state.get("user", {}) for rule in rules for state in rule)

    def _find_action_from_rules(
        self, tracker: DialogueStateTracker, domain: Domain, use_text_for_last_user_input: bool
    ) -> tuple[str | None, str | None, bool]:
        if use_text_for_last_user_input and not self._reads_texts:
            return None, None, False
        found: tuple[str | None, str | None, bool] = super()._find_action_from_rules(
            tracker, domain, use_text_for_last_user_input
        )
        return found

    def _prediction_states(self, *arguments: Any, **named: Any) -> list[State]:
        states: list[State] = super()._prediction_states(*arguments, **named)
        return states[-self._longest :]
