"""Errors that a person can mend: shown as one line, without a traceback; and what no text that is shown or kept has in it."""

import re

ELSEWHERE = "; another machine may do"
"""How the line ends that tells of what another machine may have: `retries` of a cluster go by it."""


class UserError(Exception):
    """What was found, what was expected, what to type."""


class NodeError(UserError):
    """The same, where the machine is at fault: a card that is lost, a driver that is silent, a lock that is held for ever."""

    def __init__(self, told: str):
        super().__init__(told + ELSEWHERE)


IN_ADDRESS = re.compile(r"(?<=://)\S{0,500}(?=@)")
"""Name and password in an address, whatever signs they have; what else stands before an `@` in its word goes with them."""
NAMED = re.compile(r"(?i)((?:token|secret|passw|api_?key|signature|credential)\w*=)[^\s&,;:]+")
"""A value that is called a secret within another one."""


def without_secrets(text: str) -> str:
    """The text with `***` for passwords in addresses and for what is called a secret in it."""
    return NAMED.sub(r"\g<1>***", IN_ADDRESS.sub("***", text))
