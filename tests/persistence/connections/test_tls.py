"""The parameters of DATABASE_URL that decide about security, against a server with certificates."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from persistence.connections.engine import DatabaseUnreachable, create_engine, ping
from persistence.settings import Settings, SettingsError
from tests.persistence import servers

pytestmark = pytest.mark.anyio

HBA = """
local all all trust
hostnossl all all all reject
hostssl all ada all cert
hostssl all grace all scram-sha-256
hostssl all all all trust
"""

AUTHORITY = """
[ca]
default_ca = here
[here]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 30
certificate = {name}.crt
private_key = {name}.key
"""


class Certificates:
    """Authorities and certificates in a directory, made by `openssl`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.home, check=True, capture_output=True)

    def authority(self, name: str) -> None:
        self.openssl(
            *f"req -x509 -nodes -newkey rsa:2048 -keyout {name}.key -out {name}.crt -days 2".split(),
            "-subj",
            f"/CN={name}",
        )

    def certificate(self, name: str, authority: str, *, alternative: str = "", password: str = "") -> None:
        protection = ["-passout", f"pass:{password}"] if password else ["-nodes"]
        self.openssl(
            *f"req -newkey rsa:2048 -keyout {name}.key -out {name}.csr".split(), *protection, "-subj", f"/CN={name}"
        )
        (self.home / "extensions").write_text(f"subjectAltName={alternative}" if alternative else "")
        signing = f"x509 -req -in {name}.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 2"
        self.openssl(*signing.split(), "-out", f"{name}.crt", "-extfile", "extensions")
        (self.home / f"{name}.key").chmod(0o600)

    def revocations(self, authority: str, *revoked: str) -> None:
        (self.home / "index").write_text("")
        (self.home / "number").write_text("01")
        (self.home / "config").write_text(AUTHORITY.format(name=authority))
        for name in revoked:
            self.openssl("ca", "-config", "config", "-revoke", f"{name}.crt")
        self.openssl("ca", "-config", "config", "-gencrl", "-out", f"{authority}-{len(revoked)}.crl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.authority("trusted")
    made.authority("stranger")
    made.certificate("localhost", "trusted", alternative="DNS:localhost")
    made.certificate("ada", "trusted", password="s3cret")
    made.revocations("trusted")
    made.revocations("trusted", "localhost")
    shutil.copy(made.home / "ada.key", made.home / "open.key")
    (made.home / "open.key").chmod(0o644)
    return made


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[servers.Server]:
    """A PostgreSQL 15 that speaks only TLS on 127.0.0.1 and ::1, with the certificate of localhost."""
    if not (servers.POSTGRES_15 / "postgres").exists():
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    files = {"localhost.crt": "ssl_cert_file", "localhost.key": "ssl_key_file", "trusted.crt": "ssl_ca_file"}
    with servers.directory() as home:
        for name in files:
            (home / name).write_bytes((certificates.home / name).read_bytes())
            (home / name).chmod(0o600)
            servers.give(home / name)
        with servers.postgres("ssl=on", *(f"{setting}={home}/{name}" for name, setting in files.items())) as server:
            (server.home / "data" / "pg_hba.conf").write_text(HBA)
            server.run("pg_ctl", "reload", "-D", str(server.home / "data"))
            server.run(
                "psql", "-h", str(server.home), "-p", str(server.port), "-U", "postgres", "-c", "CREATE ROLE ada LOGIN"
            )
            server.run(
                "psql",
                "-h",
                str(server.home),
                "-p",
                str(server.port),
                "-U",
                "postgres",
                "-c",
                "CREATE ROLE grace LOGIN PASSWORD 'hopper'",
            )
            yield server


async def answer(url: str, question: str = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()") -> Any:
    engine = create_engine(Settings(database_url=url), pooled=False)
    try:
        await ping(engine)
        async with engine.connect() as connection:
            return (await connection.execute(text(question))).scalar_one()
    finally:
        await engine.dispose()


def url(server: servers.Server, query: str, *, host: str = "localhost", user: str = "postgres") -> str:
    return f"postgresql://{user}@{host}:{server.port}/postgres?{query}"


@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("localhost", "sslmode=verify-full&sslrootcert={home}/trusted.crt"),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert={home}/trusted.crt"),
        ("127.0.0.1", "sslmode=require&sslrootcert={home}/trusted.crt"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", "sslmode=allow"),
        ("127.0.0.1", ""),
        ("localhost", "sslmode=verify-full&sslrootcert={home}/trusted.crt&sslcrl={home}/trusted-0.crl"),
    ],
)
async def test_a_mode_lets_in_whom_it_should(
    server: servers.Server, certificates: Certificates, host: str, query: str
) -> None:
    assert await answer(url(server, query.format(home=certificates.home), host=host)) == "true"


@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={home}/trusted.crt"),
        ("localhost", "sslmode=verify-full&sslrootcert={home}/stranger.crt"),
        ("localhost", "sslmode=verify-ca&sslrootcert={home}/stranger.crt"),
        ("localhost", "sslmode=require&sslrootcert={home}/stranger.crt"),
        ("localhost", "sslrootcert=system"),
        ("localhost", "sslmode=verify-full&sslrootcert={home}/trusted.crt&sslcrl={home}/trusted-1.crl"),
    ],
)
async def test_a_server_that_cannot_prove_who_it_is_gets_no_word(
    server: servers.Server, certificates: Certificates, host: str, query: str
) -> None:
    with pytest.raises(DatabaseUnreachable, match="its certificate does not prove"):
        await answer(url(server, query.format(home=certificates.home), host=host))


async def test_without_tls_a_server_that_insists_on_it_is_not_reached(server: servers.Server) -> None:
    with pytest.raises(DatabaseUnreachable, match="the user may not connect"):
        await answer(url(server, "sslmode=disable"))


async def test_a_server_without_tls_is_told(postgres15: servers.Server) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not speak TLS"):
        await answer(url(postgres15, "sslmode=require"))


async def test_the_authorities_of_the_system_are_those_of_openssl(
    server: servers.Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.home / "trusted.crt"))

    assert await answer(url(server, "sslmode=verify-full&sslrootcert=system")) == "true"
    with pytest.raises(DatabaseUnreachable, match="its certificate does not prove"):
        await answer(url(server, "sslrootcert=system", host="127.0.0.1"))


async def test_a_certificate_says_who_the_client_is(server: servers.Server, certificates: Certificates) -> None:
    home = certificates.home
    query = f"sslmode=require&sslcert={home}/ada.crt&sslkey={home}/ada.key&sslpassword=s3cret"

    assert await answer(url(server, query, user="ada"), "SELECT current_user::text") == "ada"
    with pytest.raises(DatabaseUnreachable, match="the user may not connect"):
        await answer(url(server, f"{query}&sslcertmode=disable", user="ada"))
    with pytest.raises(SettingsError, match="sslpassword") as caught:
        await answer(url(server, query.replace("s3cret", "s4cret"), user="ada"))
    assert "s4cret" not in str(caught.value)
    with pytest.raises(SettingsError, match="chmod 600"):
        await answer(url(server, query.replace("ada.key", "open.key"), user="ada"))


async def test_versions_of_the_protocol_are_bounded(server: servers.Server) -> None:
    version = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

    assert await answer(url(server, "sslmode=require"), version) == "TLSv1.3"
    assert await answer(url(server, "sslmode=require&ssl_max_protocol_version=TLSv1.2"), version) == "TLSv1.2"


async def test_options_win_over_what_taskstore_sends(server: servers.Server) -> None:
    query = "options=-c%20statement_timeout=1234%20--jit=on%20-cgeqo=off&application_name=reports"
    names = "statement_timeout jit geqo application_name lock_timeout"
    question = f"SELECT string_agg(current_setting(n), ' ') FROM string_to_table('{names}', ' ') AS n"

    assert await answer(url(server, query), question) == "1234ms on off reports 3s"


async def test_a_password_is_found_in_the_file_of_passwords(server: servers.Server, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"localhost:{server.port}:*:grace:hopper\n")
    passwords.chmod(0o600)

    question = "SELECT current_user::text"
    assert await answer(url(server, f"passfile={passwords}", user="grace"), question) == "grace"
    with pytest.raises(DatabaseUnreachable, match="password is wrong"):
        await answer(url(server, "passfile=/nowhere", user="grace:wrong"), question)


async def test_the_first_of_several_hosts_that_answers_is_taken(server: servers.Server) -> None:
    closed = servers.free_port()
    hosts = f"postgresql://postgres@127.0.0.1:{closed},localhost:{server.port}/postgres"

    assert await answer(f"{hosts}?sslmode=require") == "true"
    assert await answer(f"{hosts}?target_session_attrs=prefer-standby") == "true"
    with pytest.raises(DatabaseUnreachable, match=f"127.0.0.1:{closed},localhost:{server.port}/postgres.*of the kind"):
        await answer(f"{hosts}?target_session_attrs=standby")


async def test_a_host_that_says_nothing_costs_its_own_time_only(server: servers.Server) -> None:
    silent = servers.listening_port()
    hosts = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]},localhost:{server.port}/postgres"

    assert await answer(f"{hosts}?connect_timeout=1") == "true"
    silent.close()
