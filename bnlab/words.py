"""Numbers of things in a sentence."""


def count(number: int, one: str, many: str = "") -> str:
    """The number and its noun, "1 Run" or "8 Runs"; `many` where the plural is more than an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
