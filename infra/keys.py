"""The keys as a process uses them: signs what it says, checks what it reads, and follows changes of the folder."""

from collections.abc import Iterable, Sequence

import structlog

from infra import metrics
from infra.clock import wall_now
from infra.key_folder import KeyFolder, Stamp
from infra.settings import ConfigurationError, Settings
from infra.signing import EVERY_FLEET, Headers, Keyring, Owner, author_of
from schemas.catalog import Rejected, Topic
from schemas.envelope import LIVE_RUN, Record

log = structlog.get_logger()


class Keys:
    """One run's keys. A key's time is the wall's, whatever the run's clock shows."""

    def __init__(self, settings: Settings) -> None:
        signing_keys = settings.signing_keys.get_secret_value() if settings.signing_keys else ""
        self.folder = KeyFolder(settings.run_keys_dir, signing_keys)
        self._run_id = settings.run_id
        self._ring = Keyring({}, {})
        self._stamp: Stamp | None = None
        self._told: set[tuple[str, str, Owner]] = set()

    def make_ready(self, signs: Iterable[Owner] = (), trusts: Iterable[Owner] = ()) -> None:
        """Makes sure that all of `signs` can be signed for, and that somebody may speak for each of `trusts`.

        Keys that a replay, a demo or a test lacks are made here, once, whichever of its processes comes first. The
        live run's are made by people: what signs them moves megawatts.

        Raises:
            ConfigurationError: a key is missing, or the folder holds what it should not; one line that says what to do.
        """
        ring, now = self._read(), wall_now()
        unsigned = [author for author in signs if ring.signer(author, now) is None]
        if self._run_id != LIVE_RUN:
            if unsigned:
                self.folder.create_once([_most(author) for author in unsigned], now)
                self._read()
            return
        if unsigned:
            raise ConfigurationError(self._why_nothing_signs_for(unsigned[0]))
        for author in trusts:
            if not ring.trusts(author, now):
                raise ConfigurationError(
                    f"{self.folder.trust_file} trusts no key of {author}: run `gridtide keys trust PUBLIC_KEY "
                    f"{_option(author)}` with what `gridtide keys show` prints there (docs/how-to/keys.md)"
                )

    def _why_nothing_signs_for(self, author: Owner) -> str:
        if not self._ring.own:
            return (
                f"no private key in {self.folder.folder} to sign for {author}: run `gridtide keys create "
                f"{_option(author)}` (docs/how-to/keys.md)"
            )
        return (
            f"{self.folder.trust_file} lets none of our {len(self._ring.own)} private keys sign for {author} at this "
            "time: `gridtide keys show` lists them (docs/how-to/keys.md)"
        )

    def sign(self, topic: Topic, record: Record, value: bytes) -> Headers:
        """The headers that sign a record; none where its topic is not a signed one.

        Raises:
            NoKeyError: no key may sign it now.
        """
        author = author_of(topic, record)
        return self._current().sign(value, author, wall_now()) if author else []

    def refusal(
        self, topic: Topic, record: Record, value: bytes, headers: Sequence[tuple[str, bytes | None]]
    ) -> Rejected | None:
        """Why a record does not count for its signature; counted, and logged once a cause. None if it does."""
        author = author_of(topic, record)
        if author is None:
            return None
        refused = self._current().refusal(value, headers, author, wall_now())
        if refused is not None:
            metrics.SIGNATURES_REFUSED.labels(topic.name, refused.reason).inc()
            # The author is one of the fleet file's, so that whoever floods the topic fills no memory here.
            cause = (topic.name, refused.reason, author)
            if cause not in self._told:
                self._told.add(cause)
                log.warning("refused, as are others like it", topic=topic.name, **_said(refused))
        return refused

    def _read(self) -> Keyring:
        self._stamp = self.folder.stamp()
        self._ring = self.folder.read()
        return self._ring

    def _current(self) -> Keyring:
        """The keys as the folder has them now; those before where it holds what it should not."""
        stamp = self.folder.stamp()
        if stamp != self._stamp:
            self._told.clear()
            try:
                self._read()
            except ConfigurationError as error:
                self._stamp = stamp
                log.error("the keys stay as they were", error=str(error))  # noqa: TRY400 - the line says all
        return self._ring


def _most(author: Owner) -> Owner:
    """What a key that is made for want of one is bound to: one planner's key will do for all fleets."""
    return Owner("planner", EVERY_FLEET) if author.role == "planner" else author


def _option(author: Owner) -> str:
    return f"--site {author.name}" if author.role == "site" else f"--fleet {author.name}"


def _said(refused: Rejected) -> dict[str, str]:
    return {"reason": refused.reason, "detail": refused.detail}
