"""What the assistant does besides uttering an answer: custom actions (rasa-sdk).

`assistant serve` runs them inside the server; `rasa run actions` serves them apart.
"""

from assistant.action_server import guard_action_server

guard_action_server()
