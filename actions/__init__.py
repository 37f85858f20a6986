"""What the assistant does besides uttering an answer: custom actions (rasa-sdk).

`assistant serve` runs them inside the server; `rasa run actions` serves them apart.
"""
