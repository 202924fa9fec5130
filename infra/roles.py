"""Logins for the roles that `infra/sql/0010_roles.sql` made, without a password in anybody's log."""

from collections.abc import Mapping
from typing import Final

import psycopg
from psycopg import sql
from pydantic import SecretStr

from infra.database import DatabaseConfigurationError, connect_blocking, faults_told_apart
from infra.settings import Settings

RECORDER: Final = "gridtide_recorder"
ANALYST: Final = "gridtide_analyst"

_ATTEMPTS: Final = 10


def passwords_of(settings: Settings) -> dict[str, SecretStr]:
    """The passwords that are set, by role."""
    given = {RECORDER: settings.recorder_password, ANALYST: settings.analyst_password}
    return {role: password for role, password in given.items() if password is not None}


def let_in(dsn: str, passwords: Mapping[str, SecretStr]) -> None:
    """Give roles a login with a password. Harmless twice and at once.

    The server is sent the SCRAM verifier and never the password, since it may log what it is sent.

    Raises:
        DatabaseConfigurationError: a role is missing, or whoever `dsn` names may not change it.
        DatabaseUnavailableError: see infra.database.
    """
    if not passwords:
        return
    with connect_blocking(dsn, "gridtide-migrate") as connection, faults_told_apart():
        for role, password in passwords.items():
            # As libpq would send it: whatever bytes the environment had.
            clear = password.get_secret_value().encode(errors="surrogateescape")
            verifier = connection.pgconn.encrypt_password(clear, role.encode(), b"scram-sha-256").decode()
            statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier))
            try:
                _alter(connection, statement)
            except psycopg.errors.InsufficientPrivilege as error:
                raise DatabaseConfigurationError(
                    f"{connection.info.user} may not set the password of {role}: it needs CREATEROLE, and the ADMIN"
                    f" option on the role; or leave {_variable(role)} unset and have an administrator set it"
                ) from error


def _alter(connection: psycopg.Connection[tuple[object, ...]], statement: sql.Composed) -> None:
    # Roles are the whole server's: another database of it may be migrated right now. PostgreSQL makes no one wait then,
    # it fails who comes second with XX000, "tuple concurrently updated". Each such failure is somebody's success.
    for attempt in range(_ATTEMPTS):
        try:
            connection.execute(statement)
        except psycopg.errors.InternalError_:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _variable(role: str) -> str:
    return f"{role.upper()}_PASSWORD"
