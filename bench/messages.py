"""What the visitors of the measurements say, by kind of message."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """A visitor's message.

    `kind` is what its time is counted under. `intent` is the area or intent that answers it, which
    an assistant that knows only keywords has to be told.
    """

    kind: str
    intent: str
    text: str


FAQ, RED_FLAG, FALLBACK, TWO_QUESTIONS, FORM = (
    "FAQ",
    "red flag",
    "fallback",
    "two questions",
    "form turn",
)
KINDS = (FAQ, RED_FLAG, FALLBACK, TWO_QUESTIONS, FORM)

_QUESTIONS = {
    "greet": ["Hello there"],
    "symptoms": [
        "What is sciatica?",
        "What causes sciatica?",
        "How do I know if I have sciatica?",
        "my left leg tingles when I sit at my desk",
        "How long does sciatica usually last?",
        "When should I see a doctor about back pain?",
        "Do I need an MRI?",
        "Could it be the piriformis muscle?",
        "Does a slipped disc heal by itself?",
        "Can both legs hurt at the same time?",
    ],
    "treatment": [
        "Does acupuncture work for sciatica?",
        "How does acupuncture help with nerve pain?",
        "does it hurt to get the needles",
        "How many sessions will I need?",
        "What happens during a treatment?",
        "Is acupuncture safe?",
        "Can I have acupuncture while I take blood thinners?",
        "I have a pacemaker, can I still come?",
        "What are the side effects?",
        "Should I try a chiropractor instead?",
        "Is surgery better than acupuncture?",
    ],
    "stretches": [
        "Which stretches help with sciatica?",
        "how often should i stretch",
        "How do I do the figure four stretch?",
        "Are there stretches I should avoid?",
    ],
    "selfcare": [
        "Is walking good for me?",
        "Should I use heat or ice?",
        "What is the best way to sleep with sciatica?",
        "Do I have to stay in bed?",
    ],
    "diet": [
        "What should I eat?",
        "Should I give up gluten?",
        "Does magnesium help?",
        "How much water should I drink?",
    ],
    "office": [
        "Where is your office?",
        "What are your opening hours?",
        "How much is a session?",
        "Do you take my insurance?",
    ],
    "thank": ["Thanks a lot"],
}

QUESTIONS = tuple(
    Message(FAQ, intent, text) for intent, texts in _QUESTIONS.items() for text in texts
)
"""What visitors commonly ask, one question a message."""

OTHERS = (
    Message(RED_FLAG, "safety", "I can't feel my groin and I can't pee"),
    Message(FALLBACK, "", "blorp wizzle the frandish quux"),
    Message(TWO_QUESTIONS, "symptoms", "What causes sciatica and how long does it last?"),
    Message(RED_FLAG, "safety", "my foot drags since yesterday and both legs are numb"),
    Message(FALLBACK, "", "how do I change the oil of my lawn mower"),
    Message(TWO_QUESTIONS, "treatment", "Does acupuncture hurt? And what do you charge for it?"),
)
"""What is not simply a question: two of each kind."""

BOOKING = Message(FORM, "book", "I want to book an appointment")
"""Opens the contact form."""

_TURNS = 5


def conversations() -> list[list[Message]]:
    """Return what is said over and over: each question once, five a conversation.

    Most conversations have one message of the other kinds, too: about one message in eight.
    """
    shuffled = [QUESTIONS[place * 7 % len(QUESTIONS)] for place in range(len(QUESTIONS))]
    groups = [shuffled[start : start + _TURNS] for start in range(0, len(shuffled), _TURNS)]
    for group, other in zip(groups, OTHERS, strict=False):
        group.insert(3, other)
    return groups
