"""DATABASE_URL means what it means to libpq, or is refused in one line that repeats no secret."""

import ssl

import pytest

from persistence.connections.address import parse, set_by_options
from persistence.settings import SettingsError

NEON = "postgresql://ada:pa%2Fss%40w@ep-cool-1-pooler.eu.aws.neon.tech/neondb?sslmode=require"
SUPABASE = "postgres://postgres.ref:p%23w@aws-0-eu.pooler.supabase.com:6543/postgres?options=reference%3Dref"
HEROKU = "postgres://u:p@ec2-1.compute-1.amazonaws.com:5432/d8"


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        (NEON, ("ep-cool-1-pooler.eu.aws.neon.tech",), (None,)),
        (SUPABASE, ("aws-0-eu.pooler.supabase.com",), (6543,)),
        ("postgresql://ada@/d?host=/run/postgresql", ("/run/postgresql",), (None,)),
        ("postgresql://ada@%2Frun%2Fpostgresql:6432/d", ("/run/postgresql",), (6432,)),
        ("postgresql://ada@a,b:6432,[::1]:7/d", ("a", "b", "::1"), (None, 6432, 7)),
        ("postgresql://ada@a:1/d?host=b", ("b",), (1,)),
        ("postgresql://ada@/d?host=a,b&port=1,2", ("a", "b"), (1, 2)),
        ("postgresql://ada@a,b/d?port=6432", ("a", "b"), (6432, 6432)),
        ("postgresql://h?dbname=d", ("h",), (None,)),
        ("postgresql:///d", (), ()),
        ("postgresql://:6432/d", ("",), (6432,)),
    ],
)
def test_hosts_and_ports_are_those_of_libpq(url: str, hosts: tuple[str, ...], ports: tuple[int | None, ...]) -> None:
    address = parse(url)

    assert (address.hosts, address.ports) == (hosts, ports)
    again = parse(address.url.render_as_string(hide_password=False))
    assert (again.hosts, again.user, again.database) == (hosts, address.user, address.database)


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        (NEON, "ada", "pa/ss@w"),
        (SUPABASE, "postgres.ref", "p#w"),
        ("postgresql://ada:a:b#c?d&e=f@h/d", "ada", "a:b#c?d&e=f"),
        ("postgresql://h/d?user=ada&password=p%26w", "ada", "p&w"),
        ("postgresql://ada@h/d", "ada", None),
    ],
)
def test_users_and_passwords_are_those_of_libpq(url: str, user: str, password: str | None) -> None:
    assert (parse(url).user, parse(url).password) == (user, password)


def test_a_url_of_heroku_becomes_one_that_sqlalchemy_takes() -> None:
    expected = HEROKU.replace("postgres://", "postgresql+asyncpg://")

    assert parse(HEROKU).url.render_as_string(hide_password=False) == expected


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg2", "postgresql", "postgres"])
def test_a_driver_in_the_url_does_not_matter(driver: str) -> None:
    assert parse(f"{driver}://h/d").url.drivername == "postgresql+asyncpg"


def test_parameters_reach_the_driver_under_its_names() -> None:
    url = "postgresql://h/d?connect_timeout=7&application_name=a+b&options=-c%20geqo=off&passfile=/p"
    wanted = parse(
        f"{url}&target_session_attrs=read-write&channel_binding=prefer&fallback_application_name=x"
    ).arguments

    assert wanted == {
        "timeout": 7.0,
        "passfile": "/p",
        "target_session_attrs": "read-write",
        "server_settings": {"options": "-c geqo=off", "application_name": "a+b"},
    }
    assert parse("postgresql://h/d?connect_timeout=0&fallback_application_name=x").arguments == {
        "timeout": None,
        "server_settings": {"application_name": "x"},
    }


def test_options_say_which_settings_they_give() -> None:
    assert set_by_options("-c statement_timeout=1s -clock_timeout=2 --JIT=on -B 5") == {
        "statement_timeout",
        "lock_timeout",
        "jit",
    }


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_modes_without_a_check_go_to_the_driver(mode: str) -> None:
    assert parse(f"postgresql://h/d?sslmode={mode}").arguments["ssl"] == mode


@pytest.mark.parametrize(
    ("query", "verified", "named"),
    [
        ("sslmode=require", ssl.CERT_NONE, False),
        ("ssl=true", ssl.CERT_NONE, False),
        ("sslrootcert=system", ssl.CERT_REQUIRED, True),
        ("sslmode=verify-full&sslrootcert=system", ssl.CERT_REQUIRED, True),
    ],
)
def test_a_mode_checks_what_it_says(query: str, verified: ssl.VerifyMode, named: bool) -> None:
    context = parse(f"postgresql://h/d?{query}").arguments["ssl"]

    assert (context.verify_mode, context.check_hostname) == (verified, named)


REFUSED = [
    ("ada:s3cret@db/tasks", "is not a URL"),
    ("s3cret", "is not a URL"),
    ("postgresql://ada:s3cret@db:port/tasks", "a port is a number"),
    ("postgresql://ada:s3cret@db:0/tasks", "a port is a number"),
    ("postgresql://ada:s3cret@db:\u0665/tasks", "a port is a number"),
    ("postgresql://ada:s3cret@db:99999/tasks", "a port above 65535"),
    ("postgresql://ada:s3cret@db:1,other:port/tasks", "a port is a number"),
    ("postgresql://ada:s3cret@db:1,other:2/tasks?port=1,2,3", "a port is a number"),
    ("postgresql://ada:s3cret@a..b/tasks", "host that cannot be one"),
    ("postgresql://ada:s3cret@a%20b/tasks", "host that cannot be one"),
    ("postgresql://ada:s3cret@/tasks?host=db:5432", "host that cannot be one"),
    ("mysql://ada:s3cret@db/tasks", "must start with postgresql://, not mysql"),
    ("ada:s3cret://ada:s3cret@db/tasks", "must start with postgresql://, not another"),
    ("postgresql://ada:s3cret@db", "names no database"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=sure", "sslmode"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=verify-full", "needs sslrootcert"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=verify-ca", "needs sslrootcert"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=verify-full&sslrootcert=/nowhere", "sslrootcert"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=require&sslrootcert=system", "sslrootcert=system"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=require&sslcrl=/nowhere", "sslcrl"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=require&sslcert=/nowhere", "sslcert without sslkey"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=require&sslcert=/nowhere&sslkey=/nowhere", "sslkey"),
    ("postgresql://ada:s3cret@db/tasks?sslmode=prefer&sslpassword=s3cret", "sslpassword"),
    ("postgresql://ada:s3cret@db/tasks?sslrootcert=/nowhere", "sslrootcert"),
    ("postgresql://ada:s3cret@db/tasks?sslcertmode=require", "sslcertmode"),
    ("postgresql://ada:s3cret@db/tasks?sslsni=0", "sslsni"),
    ("postgresql://ada:s3cret@db/tasks?ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version"),
    ("postgresql://ada:s3cret@db/tasks?channel_binding=require", "channel_binding"),
    ("postgresql://ada:s3cret@db/tasks?gssencmode=require", "gssencmode"),
    ("postgresql://ada:s3cret@db/tasks?load_balance_hosts=random", "load_balance_hosts"),
    ("postgresql://ada:s3cret@db/tasks?client_encoding=latin1", "client_encoding"),
    ("postgresql://ada:s3cret@db/tasks?target_session_attrs=best", "target_session_attrs"),
    ("postgresql://ada:s3cret@db/tasks?connect_timeout=soon", "connect_timeout"),
    ("postgresql://ada:s3cret@db/tasks?connect_timeout=-1", "connect_timeout"),
    *(
        (f"postgresql://ada:s3cret@db/tasks?{name}=x", name)
        for name in ("require_auth", "service", "hostaddr", "keepalives", "requirepeer", "krbsrvname", "pgbouncer")
    ),
    ("postgresql://ada:s3cret@db/tasks?s3cret%20=x", "something"),
    ("postgresql://ada:s3cret@db/tasks?application_name", "application_name"),
    ("postgresql://ada:100%s3cret@db/tasks", "write it as %25"),
    ("postgresql://ada:%ffs3cret@db/tasks", "UTF-8"),
    # A password that was pasted as it is.
    ("postgresql://ada:p@s3cret@db/tasks", "write @ as %40"),
    ("postgresql://ada:@s3cret@db/tasks", "write @ as %40"),
    ("postgresql://ada:s3cret@@db/tasks", "write @ as %40"),
    ("postgresql://ada:5432/s3cret@db/tasks", "/ as %2F"),
    ("postgresql://ada:p/s3cret@db/tasks", "/ as %2F"),
    ("postgresql://ada:/s3cret@db/tasks", "/ as %2F"),
    ("postgresql://ada:p@x/s3cret@db/tasks", "/ as %2F"),
    ("postgresql://ada:p@x?s3cret@db/tasks", "write @ as %40"),
    ("postgresql://ada:p@x#s3cret@db/tasks?application_name=a@b", "write @ as %40"),
]


@pytest.mark.parametrize(("url", "expected"), REFUSED)
def test_what_is_not_meant_is_refused_in_one_line_without_the_password(
    url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(SettingsError) as caught:
        _ = parse(url).arguments

    message = str(caught.value)
    assert expected in message
    assert "DATABASE_URL" in message
    assert "s3cret" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (NEON, "ep-cool-1-pooler.eu.aws.neon.tech/neondb"),
        (HEROKU, "ec2-1.compute-1.amazonaws.com:5432/d8"),
        ("postgresql://ada:s3cret@/tasks?host=/run/postgresql", "/run/postgresql/tasks"),
        ("postgresql://ada:s3cret@a:1,b:2/tasks", "a:1,b:2/tasks"),
        ("postgresql://ada:s3cret@[::1]:1/tasks?sslpassword=x", "[::1]:1/tasks"),
        ("postgresql:///tasks", "local socket/tasks"),
        ("postgresql:///ta%0Asks", "local socket/ta?sks"),
    ],
)
def test_where_a_url_leads_says_nothing_of_who(url: str, expected: str) -> None:
    assert parse(url).where == expected
