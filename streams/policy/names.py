"""Names of controls: readable, unique, and no longer than the contract allows. Pure."""

from hashlib import sha256


def shortened(name: str, longest: int) -> str:
    """The name, or its beginning and a hash of it all where it is longer than `longest` characters."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 17]}~{sha256(name.encode()).hexdigest()[:16]}"
