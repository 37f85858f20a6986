"""Short commands that visitors give in a form, and what gives a question away."""

from __future__ import annotations

import re

_END = r"(?:\s*(?:please|pls|thanks|thank you|then|now))*\s*$"
_START = r"^(?:(?:please|pls|ok|okay|oh|no|wait|actually|sorry|um|well|hmm|hey|just)\s+)*"


def _whole(alternatives: str) -> re.Pattern[str]:
    return re.compile(_START + rf"(?:{alternatives})" + _END)


_CANCEL = _whole(
    r"cancel(?: (?:it|this|that|everything|the (?:form|request)|my request))?|stop(?: (?:it|this|that))?|"
    r"never ?mind(?: (?:that|then))?|nvm|forget (?:it|that|about it)|quit|exit|abort|leave it|drop it|"
    r"scrap (?:it|that)|(?:do not|dont) send (?:it|this|that|anything)|i changed my mind|"
    r"i (?:do not|dont) want (?:to|this)(?: (?:continue|go on|do this))?(?: any ?more)?|"
    r"i(?:ll| will) (?:just )?call (?:instead|you|them)?|not any ?more|bye|goodbye|good bye"
)
_BACK = _whole(
    r"(?:go|step|take me|move) back(?: (?:a|one) step)?(?: (?:to )?the (?:last|previous) (?:one|question|step))?|"
    r"back(?: up)?|previous(?: (?:question|step))?|undo|one step back|"
    r"i (?:made|think i made) a (?:mistake|typo)|let me (?:fix|correct|change|redo) (?:that|it)|"
    r"(?:that|this) (?:was|is) (?:wrong|a typo|not right)"
)
_SKIP = _whole(
    r"skip(?: (?:it|this|that|the note))?|none|nothing(?: (?:else|more|to add))?|n/?a|nope|nah|no|"
    r"no (?:note|thanks?|thank you|need|comment|message)|not really|pass|next|thats (?:all|it)|"
    r"leave (?:it|this|that) (?:out|empty|blank)|nothing else|"
    r"(?:id|i would|i) (?:rather not|prefer not|dont|do not|wont|will not)(?: (?:want|like|wish))?(?: to)?"
    r"(?: (?:say|give|tell|share)\b.*)?"
)
_YES = re.compile(
    _START + r"(?:yes|yep|yeah|yea|yup|ya|y|sure|ok|okay|k|fine|of course|go ahead|absolutely|"
    r"i agree|agreed|i do|you may|sounds good|all right|alright|thats (?:ok|okay|fine|right)|"
    r"do it|correct|right|si)\b"
)
_NO = re.compile(
    _START
    + r"(?:no|nope|nah|n|not (?:now|really|ok|okay)|dont|do not|rather not|(?:id|i would) rather not|"
    r"i (?:dont|do not|disagree|refuse)|just chat)\b"
)
_SEND = re.compile(
    _START
    + r"(?:send|submit|try (?:again|once more|it again)|confirm|looks? (?:good|right|fine|ok|okay)|"
    r"(?:its|thats|this is|everything is|all) (?:good|right|correct|fine|perfect)|perfect|great|good to go)\b"
)
_FIELDS = {
    "name": r"name",
    "reach": r"phone|number|e ?-?mail|cell|mobile|contact",
    "time": r"times?|day|date|hour|when",
    "note": r"note|message|comment|else",
}
_CHANGE = re.compile(
    r"\b(?:change|edit|fix|correct|update|redo|replace|alter|wrong|different|another|not (?:right|correct)|mistake)\b"
)
_WHY = re.compile(
    r"^(?:but |and |ok |sorry )?(?:why|what for|for what|how come)(?: (?:is|though|exactly|that|this))*\W*$|"
    r"\b(?:why|what for|how come)\b.*\b(?:need|ask|asking|want|have to|must|should i|tell|give|require|necessary|"
    r"collect|matter|important|my (?:name|number|phone|e ?-?mail))\b|"
    r"\bwhat (?:do|would|will|are) (?:you|u|they|the office) (?:need|want|do|going to do|use) .*\b(?:for|with)\b|"
    r"^(?:do|must) (?:you|i) (?:really )?(?:need|have to|must|give)\b.*|"
    r"^is (?:it|this|that) (?:really )?(?:necessary|needed|required|mandatory|optional)\W*$"
)
_OPENER = re.compile(
    r"^(?:(?:ok|okay|and|but|also|so|well|wait|hey|hi|sorry|quick question|question)[\s,:]+)*"
    r"(?:(?:what|whats|how|hows|where|wheres|when|whens|who|whos|why|which|whose)\b|"
    r"(?:is|are|am|do|does|did|can|could|should|will|would|may|have|has|was|were)\s+"
    r"(?:i|you|u|we|they|it|he|she|this|that|there|the|my|your|any|anyone|somebody|someone|acupuncture|needles?|"
    r"sciatica|insurance|medicare|stretching|walking|heat|ice|cupping|herbs|parking)\b|"
    r"(?:tell me|show me|explain|i want to know|i would like to know|id like to know|i have a question|can you)\b)"
)
_AGE = re.compile(
    r"\b(?:i am|im|i m|i just turned|i turned|age|aged)\s*(?:only |just |about |a )?(\d{1,2})"
    r"(?!\d|[:/.\-]\d|\s*(?:days?|weeks?|months?|min(?:ute)?s?|h(?:ou)?rs?|am|pm|miles?|blocks?|percent|%))\b"
)
_MINOR = re.compile(
    r"\b(?:i am|im) (?:a |still (?:a )?)?(?:minor|underage|kid|child|teen|teenager|in (?:middle|high) school)\b"
)
_CHILD = re.compile(
    r"\bmy (?:little |young |teenage |teen |\d{1,2}[ -]year[ -]old )*"
    r"(?:\d{1,2}[ -]?(?:year[ -]?old|yo|y/o)|kid|child|son|daughter|boy|girl|toddler|baby|teen|teenager|grandson|granddaughter|grandchild)s?\b"
)
_PARENT = re.compile(
    r"\b(?:i am|im) (?:the|a|her|his|their) (?:parent|mother|mom|father|dad|guardian)\b"
)


def plain(text: str) -> str:
    """Return a text in lower case, with straight quotes and no apostrophes in short forms."""
    lowered = text.lower().replace("’", "'").replace("‘", "'")  # noqa: RUF001
    lowered = re.sub(r"(?<=[a-z])'(?=(?:m|s|d|t|ll|re|ve)\b)", "", lowered)
    return " ".join(lowered.split()).strip(" .!,")


def is_cancel(text: str) -> bool:
    """Whether somebody wants out."""
    return bool(_CANCEL.match(plain(text)))


def is_back(text: str) -> bool:
    """Whether somebody wants the question before."""
    return bool(_BACK.match(plain(text)))


def is_skip(text: str) -> bool:
    """Whether somebody leaves a question out."""
    return bool(_SKIP.match(plain(text)))


def is_yes(text: str) -> bool:
    """Whether a text begins with a yes."""
    return bool(_YES.match(plain(text)))


def is_no(text: str) -> bool:
    """Whether a text begins with a no."""
    return bool(_NO.match(plain(text)))


def is_send(text: str) -> bool:
    """Whether somebody wants the request sent."""
    return bool(_SEND.match(plain(text)))


def is_change(text: str) -> bool:
    """Whether somebody wants something different."""
    return bool(_CHANGE.search(plain(text)))


def field_to_change(text: str) -> str:
    """Return which answer somebody wants to change (`name`, `reach`, `time`, `note`); "" if none."""
    words = plain(text)
    if not _CHANGE.search(words):
        return ""
    found = [name for name, words_ in _FIELDS.items() if re.search(rf"\b(?:{words_})\b", words)]
    return found[0] if found else ""


def named_field(text: str) -> str:
    """Return which answer a text names and nothing else ("the time"); "" if none."""
    words = re.sub(r"^(?:my|the)\s+", "", plain(text))
    found = [name for name, words_ in _FIELDS.items() if re.fullmatch(words_, words)]
    return found[0] if found else ""


def is_why(text: str) -> bool:
    """Whether somebody asks why a question is asked."""
    return bool(_WHY.search(plain(text).rstrip("?").strip()))


def is_question(text: str) -> bool:
    """Whether a text asks something."""
    has_words = any(map(str.isalpha, text))
    return has_words and (text.rstrip().endswith("?") or bool(_OPENER.match(plain(text))))


def is_minor(text: str) -> bool:
    """Whether somebody says that they are under age."""
    words = plain(text)
    if _PARENT.search(words):
        return False
    return bool(_MINOR.search(words)) or any(5 <= int(age) < 18 for age in _AGE.findall(words))


def is_about_child(text: str) -> bool:
    """Whether somebody speaks of a child of theirs."""
    return bool(_CHILD.search(plain(text)))
