"""Where keys lie, who may read them, how they come to be, and how a running process follows what changes there."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr
from structlog.testing import capture_logs

from infra import metrics
from infra.clock import wall_now
from infra.key_folder import KeyFolder
from infra.keys import Keys
from infra.settings import ConfigurationError, Settings
from infra.signing import NoKeyError, Owner
from infra.trust_file import TrustFileError, parse_trust_file, trust_file_of
from schemas.catalog import COMMAND_ACKS, GPU_TELEMETRY, SITE_COMMANDS
from tests.examples import ACK, FRAME, NOON, THROTTLE, after
from tests.signers import EVERYBODY, NYC, NYISO, private_key, trusted

PLANNER, SITE = Owner("planner", THROTTLE.fleet_id), Owner("site", ACK.site_id)


def settings(folder: Path, run_id: str = "replay-1", **more: SecretStr) -> Settings:
    """A run's settings, its keys below a folder."""
    return Settings(run_id=run_id, keys_dir=folder, signing_keys=more.get("signing_keys"))


def pem(number: int) -> bytes:
    """A private key's file."""
    return private_key(number).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def refused(read: Callable[[], object]) -> str:
    """The one line with which something is refused."""
    with pytest.raises(ConfigurationError) as caught:
        read()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_trust_file_is_read_as_it_was_written() -> None:
    keys = [
        trusted(1, EVERYBODY),
        trusted(2, NYC, NOON, after(90.5)),
        trusted(3, NYISO, None, NOON),
    ]
    text = trust_file_of(keys)
    assert list(parse_trust_file(text).items()) == [(key.id, key) for key in keys]
    assert "not_before = 2026-11-01T12:00:00Z" in text
    assert parse_trust_file("") == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('site = "nyiso-nyc"\n', ""), "keys[0]: a key is bound to a fleet or to a site"),
        (('site = "nyiso-nyc"', 'site = "nyiso-nyc"\nfleet = "nyiso"'), "keys[0]: a key is bound to a fleet or to a"),
        (('site = "nyiso-nyc"', 'site = "*"'), "keys[0].site: String should match"),
        (('site = "nyiso-nyc"', 'fleet = "**"'), "keys[0].fleet: String should match"),
        (('id = "', 'id = "0'), "is not that of the public key"),
        (('public_key = "', 'public_key = "A'), "32 bytes in base64"),
        (('site = "nyiso-nyc"', 'site = "nyiso-nyc"\nnot_before = 2026-12-01T00:00:00'), "must be an aware UTC time"),
        (('site = "nyiso-nyc"', 'site = "nyiso-nyc"\nnot_befor = 2026-12-01T00:00:00Z'), "Extra inputs"),
        (
            (
                'site = "nyiso-nyc"',
                'site = "nyiso-nyc"\nnot_before = 2026-12-02T00:00:00Z\nnot_after = 2026-12-01T00:00:00Z',
            ),
            "not_after must be after",
        ),
        (("[[keys]]", "[[keys"), "not TOML"),
        (("[[keys]]", "[[key]]"), "Extra inputs"),
    ],
)
def test_trust_file_that_is_wrong_is_refused_in_one_line(change: tuple[str, str], said: str) -> None:
    text = trust_file_of([trusted(1, NYC)])
    with pytest.raises(TrustFileError) as caught:
        parse_trust_file(text.replace(*change))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_trust_file_with_a_key_twice_is_refused() -> None:
    with pytest.raises(TrustFileError, match="twice"):
        parse_trust_file(trust_file_of([trusted(1, NYC), trusted(1, NYISO)]))


def test_create_keeps_a_private_key_that_nobody_else_may_read(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys" / "live")
    before = os.umask(0)
    try:
        key = folder.create(NYC, NOON, after(60))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.file_of(key).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.folder.stat().st_mode) == 0o700
    assert folder.read().signer(NYC, NOON) == key
    assert folder.trusted() == {key.id: key}
    assert {path.name for path in folder.folder.iterdir()} == {".lock", "trust.toml", folder.file_of(key).name}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    file = folder.file_of(folder.create(NYC))
    file.chmod(mode)
    assert refused(folder.read) == f"{file}: others may read this private key: run `chmod 600 {file}`"


def test_a_file_that_is_no_ed25519_key_is_refused_and_not_quoted(tmp_path: Path) -> None:
    folder, file = KeyFolder(tmp_path), tmp_path / "own.pem"
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = private_key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pass"))
    for content in (b"s3cret", b"", other, locked, pem(1)[:-40]):
        file.write_bytes(content)
        file.chmod(0o600)
        said = refused(folder.read)
        assert said == f"{file}: not an Ed25519 private key in PEM (PKCS #8, without a passphrase)"


def test_keys_made_elsewhere_are_read_whatever_their_files_are_called(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.pem").write_bytes(pem(number))
        (tmp_path / f"{number}.pem").chmod(0o600)
    folder = KeyFolder(tmp_path)
    folder.trust(trusted(1, NYISO))
    assert folder.read().own.keys() == {trusted(1, NYISO).id, trusted(2, NYISO).id}
    assert folder.read().signer(NYISO, NOON) == trusted(1, NYISO)


def test_signing_keys_of_the_environment_are_pem_or_the_lines_within(tmp_path: Path) -> None:
    whole = (pem(1) + pem(2)).decode()
    lines = ",".join(pem(number).decode().splitlines()[1] for number in (1, 2))
    for text in (whole, lines, f" {lines} ,\n"):
        assert KeyFolder(tmp_path, text).read().own.keys() == {trusted(1, NYC).id, trusted(2, NYC).id}
    for wrong in ("s3cret", lines + "A", "-----BEGIN PRIVATE KEY-----"[:-1]):
        said = refused(KeyFolder(tmp_path, wrong).read)
        assert said == "GRIDTIDE_SIGNING_KEYS: not Ed25519 private keys in PEM (PKCS #8)"


def test_trust_replaces_what_was_known_of_a_key_and_keeps_the_others(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    for key in (trusted(1, NYISO), trusted(2, NYC), trusted(1, NYISO, None, NOON)):
        folder.trust(key)
    assert list(folder.trusted().values()) == [trusted(1, NYISO, None, NOON), trusted(2, NYC)]


def test_retire_takes_a_key_out_or_ends_its_time(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    folder.trust(trusted(1, NYISO, NOON))
    assert folder.retire(trusted(1, NYISO).id, after(60))
    assert list(folder.trusted().values()) == [trusted(1, NYISO, NOON, after(60))]
    with pytest.raises(ValueError, match="not_after must be after"):
        folder.retire(trusted(1, NYISO).id, NOON)
    assert folder.retire(trusted(1, NYISO).id)
    assert folder.trusted() == {}
    assert not folder.retire(trusted(1, NYISO).id)


def test_a_replay_makes_the_keys_that_it_lacks_once_however_many_processes_start(tmp_path: Path) -> None:
    every = [Keys(settings(tmp_path)) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda keys: keys.make_ready(signs=[PLANNER, SITE]), every))
    found = every[0].folder.trusted().values()
    assert sorted((key.owner.role, key.owner.name) for key in found) == [("planner", "*"), ("site", SITE.name)]
    value = THROTTLE.to_json()
    headers = every[0].sign(SITE_COMMANDS, THROTTLE, value)
    assert [keys.refusal(SITE_COMMANDS, THROTTLE, value, headers) for keys in every] == [None] * 8


def test_runs_do_not_share_keys(tmp_path: Path) -> None:
    one, other = Keys(settings(tmp_path, "replay-1")), Keys(settings(tmp_path, "replay-2"))
    one.make_ready(signs=[PLANNER])
    other.make_ready(signs=[PLANNER])
    value = THROTTLE.to_json()
    refusal = other.refusal(SITE_COMMANDS, THROTTLE, value, one.sign(SITE_COMMANDS, THROTTLE, value))
    assert refusal is not None
    assert refusal.reason == "untrusted"


def test_the_live_run_makes_no_keys_and_says_what_is_missing(tmp_path: Path) -> None:
    keys = Keys(settings(tmp_path, "live"))
    said = refused(lambda: keys.make_ready(signs=[PLANNER]))
    assert said.startswith(f"no private key in {tmp_path / 'live'} to sign for {PLANNER}: run `gridtide keys create ")
    said = refused(lambda: keys.make_ready(trusts=[PLANNER]))
    assert said.startswith(f"{tmp_path / 'live' / 'trust.toml'} trusts no key of {PLANNER}: run `gridtide keys trust ")
    assert not list(tmp_path.iterdir())


def test_the_live_run_says_that_no_private_key_is_trusted_now(tmp_path: Path) -> None:
    keys = Keys(settings(tmp_path, "live"))
    keys.folder.create(PLANNER, wall_now() + timedelta(days=1))
    said = refused(lambda: keys.make_ready(signs=[PLANNER]))
    assert said.startswith(f"{tmp_path / 'live' / 'trust.toml'} lets none of our 1 private keys sign for {PLANNER} ")
    keys.make_ready(trusts=[PLANNER])  # it will count


def test_the_live_run_starts_with_the_keys_that_people_made(tmp_path: Path) -> None:
    key = trusted(1, EVERYBODY)
    KeyFolder(tmp_path / "live").trust(key)
    planner = Keys(settings(tmp_path, "live", signing_keys=SecretStr(pem(1).decode())))
    planner.make_ready(signs=[PLANNER])
    reader = Keys(settings(tmp_path, "live"))
    reader.make_ready(trusts=[PLANNER])
    value = THROTTLE.to_json()
    assert reader.refusal(SITE_COMMANDS, THROTTLE, value, planner.sign(SITE_COMMANDS, THROTTLE, value)) is None


def test_keys_sign_only_topics_that_are_signed(tmp_path: Path) -> None:
    keys = Keys(settings(tmp_path))
    assert keys.sign(GPU_TELEMETRY, FRAME, FRAME.to_json()) == []
    assert keys.refusal(GPU_TELEMETRY, FRAME, FRAME.to_json(), []) is None
    with pytest.raises(NoKeyError):
        keys.sign(COMMAND_ACKS, ACK, ACK.to_json())


def test_refusals_are_all_counted_and_logged_once_a_cause_until_the_keys_change(tmp_path: Path) -> None:
    keys = Keys(settings(tmp_path))
    keys.make_ready(signs=[PLANNER])
    value = THROTTLE.to_json()
    counted = metrics.SIGNATURES_REFUSED.labels(SITE_COMMANDS.name, "unsigned")
    before = counted._value.get()
    with capture_logs() as logs:
        for number in range(5):
            keys.refusal(SITE_COMMANDS, THROTTLE, value, [])
            keys.refusal(SITE_COMMANDS, THROTTLE, value, [("signature", b""), ("key-id", str(number).encode())])
    assert counted._value.get() == before + 5
    assert [line["reason"] for line in logs] == ["unsigned", "untrusted"]
    keys.folder.trust(trusted(1, NYC))
    with capture_logs() as logs:
        keys.refusal(SITE_COMMANDS, THROTTLE, value, [])
    assert len(logs) == 1


def test_a_running_process_follows_what_is_trusted(tmp_path: Path) -> None:
    planner, reader = Keys(settings(tmp_path / "planner")), Keys(settings(tmp_path / "site"))
    planner.make_ready(signs=[PLANNER])
    (key,) = planner.folder.trusted().values()
    value = THROTTLE.to_json()
    headers = planner.sign(SITE_COMMANDS, THROTTLE, value)

    def taken() -> bool:
        return reader.refusal(SITE_COMMANDS, THROTTLE, value, headers) is None

    assert not taken()
    reader.folder.trust(key)
    assert taken()
    reader.folder.retire(key.id, datetime(2020, 1, 1, tzinfo=UTC))
    assert not taken()
    reader.folder.trust(key)
    assert taken()
    reader.folder.retire(key.id)
    assert not taken()


def test_a_running_process_goes_over_to_the_next_key(tmp_path: Path) -> None:
    keys = Keys(settings(tmp_path))
    keys.make_ready(signs=[PLANNER])
    before = dict(keys.sign(SITE_COMMANDS, THROTTLE, b"value"))["key-id"]
    following = keys.folder.create(PLANNER, wall_now() - timedelta(seconds=1))
    assert dict(keys.sign(SITE_COMMANDS, THROTTLE, b"value"))["key-id"] == following.id.encode() != before


def test_a_running_process_keeps_its_keys_while_the_folder_holds_what_it_should_not(tmp_path: Path) -> None:
    keys = Keys(settings(tmp_path))
    keys.make_ready(signs=[PLANNER])
    value = THROTTLE.to_json()
    headers = keys.sign(SITE_COMMANDS, THROTTLE, value)
    keys.folder.trust_file.write_text("[[keys")
    assert keys.refusal(SITE_COMMANDS, THROTTLE, value, headers) is None
    assert keys.sign(SITE_COMMANDS, THROTTLE, value) == headers
    refused(lambda: Keys(settings(tmp_path)).make_ready(signs=[PLANNER]))
