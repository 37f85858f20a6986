"""From a visitor's text to the topic it asks about: Rasa components and what they stand on."""
