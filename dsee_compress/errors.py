"""What a stage raises on purpose; everything else is a crash of our own."""


class UserError(Exception):
    """A mistake in what was asked for: one sentence saying what is wrong, where, and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class GateError(Exception):
    """A proof at a hand-over did not hold: says what was compared, by how much it differs and the limit."""
