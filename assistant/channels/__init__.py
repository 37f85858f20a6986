"""Where visitors write: Rasa input channels."""
