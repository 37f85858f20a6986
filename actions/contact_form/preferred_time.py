"""When somebody would like to come: their own words, put in order and never dropped."""

from __future__ import annotations

import re

LONGEST_TIME = 200  # characters

_DAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "weds": "Wednesday",
    "thu": "Thursday", "thur": "Thursday", "thurs": "Thursday", "fri": "Friday", "sat": "Saturday",
    "sun": "Sunday",
}  # fmt: skip
_FULL = {day.lower(): day for day in set(_DAYS.values())}
_SHORT = {
    **_DAYS,
    **_FULL,
    **{f"{day}s": f"{name}s" for day, name in _FULL.items()},
    "tmrw": "tomorrow", "tmr": "tomorrow", "2moro": "tomorrow", "aft": "afternoon",
    "arvo": "afternoon", "eve": "evening", "morn": "morning", "wknd": "weekend",
    "wk": "week", "mornin": "morning", "asap": "as soon as possible",
}  # fmt: skip
_TIME = re.compile(
    r"\b(?:mon|tues?|weds?|wednes|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:days?)?\b|"
    r"\b(?:today|tonight|tomorrow|tmrw|tmr|2moro|week ?days?|week ?ends?|wknd|weeks?|wk|months?|days?)\b|"
    r"\b(?:mornings?|morn|mornin|noons?|midday|afternoons?|aft|arvo|evenings?|eve|nights?|lunch ?(?:time|break|hour)?|"
    r"early|late|later|earlier|daytime|after (?:work|school|lunch)|before (?:work|noon|lunch))\b|"
    r"\b(?:any ?time|whenever|any ?day|always|flexible|no preference|dont care|open|asap|soon(?:est)?|"
    r"as soon as possible|first available|next available|earliest|either|doesnt matter|does not matter|all day|"
    r"whatever works|up to (?:you|them)|any(?:thing)? (?:is )?(?:fine|works|goes))\b|"
    r"\b(?:jan(?:uary)?|feb(?:ruary)?|march|april|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?) \d{1,2}(?:st|nd|rd|th)?\b|\bthe \d{1,2}(?:st|nd|rd|th)\b|\b\d{1,2}/\d{1,2}\b|"
    r"\b\d{1,2}(?::\d\d)? ?(?:am|pm|a\.m|p\.m|o'?clock)|\b\d{1,2}:\d\d\b|"
    r"\b(?:after|before|around|about|at|from|until|till|by|past|between) \d{1,2}\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:um|uh|well|oh|so|hmm|ok|okay|yes|hi|please|maybe|perhaps|actually|i think|i guess|probably|preferably|"
    r"how about|what about|let'?s say|say|would|could i (?:come|do)|can i (?:come|do)|"
    r"i(?: wou|')ld (?:like|prefer|love)|i'?d (?:like|prefer|love)|i prefer|i(?: a|')m (?:free|available|open)|"
    r"im (?:free|available|open)|i can (?:come|do|make)|i could (?:come|do)|i want|"
    r"my preferred (?:time|day) is|it'?s|is|on)(?:\b[\s,:]*))+",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"[\s,]*\b(?:(?:would|will) (?:work|be (?:good|great|best|fine|nice|perfect))|(?<!after )(?<!before )works?(?: (?:best|for me|well|better))*|"
    r"(?:is|are) (?:good|best|better|great|fine|perfect|ok|okay|ideal)|suits? me(?: best)?|please|pls|thanks?|"
    r"thank you|if (?:possible|that works|you can)|for me)[\s.!?]*$",
    re.IGNORECASE,
)


def read_time(text: str) -> str:
    """Return the time that a text names, as it will be read back; "" if it names none.

    Filler at both ends goes, short forms are written out; every other word stays ("not before 10").
    """
    words = " ".join(text.replace("’", "'").split())  # noqa: RUF001
    if not _TIME.search(words.replace("'", "").lower()) or len(words) > LONGEST_TIME:
        return ""
    shorter = _LEAD.sub("", words)
    while (cut := _TAIL.sub("", shorter)) != shorter:
        shorter = cut
    kept = shorter.strip(" .,!?;:") or words
    kept = re.sub(
        r"[A-Za-z0-9]+", lambda word: _SHORT.get(word.group().lower(), word.group()), kept
    )
    return kept[:1].upper() + kept[1:]
