"""Errors that a person can mend: shown as one line, without a traceback."""

ELSEWHERE = "; another machine may do"
"""How the line ends that tells of what another machine may have: `retries` of a cluster go by it."""


class UserError(Exception):
    """What was found, what was expected, what to type."""


class NodeError(UserError):
    """The same, where the machine is at fault: a card that is lost, a driver that is silent, a lock that is held for ever."""

    def __init__(self, told: str):
        super().__init__(told + ELSEWHERE)
