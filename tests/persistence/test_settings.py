"""Settings: where they come from, and how a wrong one is told."""

import dataclasses
from pathlib import Path

import pytest

from persistence import settings
from persistence.settings import Settings, SettingsError, load

SECRET = "postgresql://ada:s3cret-word@db.example.org/tasks"


def test_without_an_environment_the_defaults_hold_and_the_store_is_embedded() -> None:
    loaded = load({})

    assert (loaded.pool_size, loaded.pool_overflow, loaded.pool_recycle) == (5, 10, 3600)
    assert loaded.embedded


def test_variables_are_read_with_their_types() -> None:
    loaded = load(
        {
            "DATABASE_URL": SECRET,
            "TASKSTORE_PORT": "9000",
            "TASKSTORE_POOL_TIMEOUT": "0.5",
            "TASKSTORE_SIGN_UP": "No",
            "TASKSTORE_DATA_DIR": "/srv/tasks",
            "TASKSTORE_TRUSTED_DOCUMENTS": "manifest.json",
            "TASKSTORE_ENVIRONMENT": "production",
        }
    )

    assert loaded.database_url == SECRET
    assert not loaded.embedded
    assert (loaded.port, loaded.pool_timeout, loaded.sign_up) == (9000, 0.5, False)
    assert (loaded.data_dir, loaded.trusted_documents) == (Path("/srv/tasks"), Path("manifest.json"))
    assert loaded.environment == "production"


def test_an_empty_variable_counts_as_absent() -> None:
    assert load({"DATABASE_URL": " ", "TASKSTORE_PORT": ""}) == Settings()


def test_overrides_win_over_the_environment_and_none_is_not_given() -> None:
    loaded = load({"TASKSTORE_PORT": "9000", "TASKSTORE_HOST": "::1"}, port=1234, host=None)

    assert (loaded.port, loaded.host) == (1234, "::1")


def test_a_dotenv_file_is_read_and_the_process_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text('TASKSTORE_PORT=1\nTASKSTORE_HOST="::1"\n# a comment\n')
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.setenv("TASKSTORE_PORT", "2")

    loaded = load()

    assert (loaded.port, loaded.host) == (2, "::1")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TASKSTORE_PORT", "http", "a whole number"),
        ("TASKSTORE_PORT", "-1", "at least 0"),
        ("TASKSTORE_POOL_SIZE", "0", "at least 1"),
        ("TASKSTORE_POOL_TIMEOUT", "soon", "a number"),
        ("TASKSTORE_POOL_TIMEOUT", "nan", "number"),
        ("TASKSTORE_STATEMENT_TIMEOUT", "inf", "number"),
        ("TASKSTORE_SIGN_UP", "maybe", "true or false"),
        ("TASKSTORE_ENVIRONMENT", "prod", "one of development, production"),
        ("TASKSTORE_POOLSIZE", "5", "not a setting"),
    ],
)
def test_a_wrong_variable_is_named_in_one_line(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: value})

    message = str(caught.value)
    assert name in message
    assert expected in message
    assert "\n" not in message


def test_the_database_url_is_not_in_the_settings_repr() -> None:
    assert "s3cret-word" not in repr(load({"DATABASE_URL": SECRET}))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TASKSTORE_PORT", "99999", "at most 65535"),
        ("TASKSTORE_PORT", "9" * 5000, "a whole number"),
        ("TASKSTORE_SESSION_DAYS", "1000000000", "at most 36500"),
        ("TASKSTORE_STATEMENT_TIMEOUT", "1e300", "at most 86400"),
        ("TASKSTORE_MAX_COST", "99999999999999999999", "at most 1000000000"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://localhost:5173/", "http://localhost:5173 without what follows"),
        (
            "TASKSTORE_ALLOWED_ORIGINS",
            "https://a.example, https://b.example/app",
            "https://b.example without what follows",
        ),
        ("TASKSTORE_ALLOWED_ORIGINS", "localhost:5173", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "null", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://App.Example", "https://app.example,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://app.example:443", "https://app.example,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://me@app.example", "origins such as"),
        ("TASKSTORE_TRUSTED_PROXIES", "nonsense", "10.0.0.0/8"),
        ("TASKSTORE_TRUSTED_PROXIES", "10.0.0.1, 10.0.0.1/8", "10.0.0.1/8"),
        ("TASKSTORE_HOST", "http://0.0.0.0", "without a port"),
        ("TASKSTORE_HOST", "0.0.0.0:8000", "without a port"),
        ("TASKSTORE_DEMO_HOSTS", "host.docker.internal:8000", "without a port"),
        ("TASKSTORE_ROOT_PATH", "tasks", "a path such as /tasks"),
        ("TASKSTORE_ROOT_PATH", "/tasks?x", "a path such as /tasks"),
        ("TASKSTORE_ROOT_PATH", "https://example.org/tasks", "a path such as /tasks"),
        ("TASKSTORE_DATA_DIR", "~nobody-of-this-name/data", "a path"),
        ("TASKSTORE_DATA_DIR", "$HOME/tasks", "with ${HOME}, not '$HOME/tasks'"),
        ("TASKSTORE_DATA_DIR", "two\nlines", "one line"),
        ("TASKSTORE_DATA_DIR", "a\x1b[31mred", "one line"),
        ("TASKSTORE_DATA_DIR", "no-utf-8\udce4", "one line"),
        ("DATABASE_URL", "postgresql://me:hunter2@db.example.org/ta\nsks", "one line"),
        ("TASKSTORE_PORT", "٨٠٠٠", "a whole number"),
        ("TASKSTORE_PORT", "8_000", "a whole number"),
        ("TASKSTORE_PORT", "+8000", "a whole number"),
        ("TASKSTORE_SESSION_DAYS", "\uff13", "a number"),
        ("TASKSTORE_SESSION_DAYS", "1_0.5", "a number"),
        ("TASKSTORE_HOST", "0", "a host name or an address"),
        ("TASKSTORE_HOST", "127.1", "a host name or an address"),
        ("TASKSTORE_HOST", "0x7f.0.0.1", "a host name or an address"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://Größe.example", "https://xn--gre-6ka8i.example,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://localhost:99999", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://localhost:0", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://localhost:٨٠", "http://localhost without what follows"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://*.example.org", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://app.*", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "https://app..example.org", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://127.1:5173", "http://127.0.0.1:5173,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://0x7f000001", "http://127.0.0.1,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://192.168.1.010", "http://192.168.1.8,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://10.0.0.256", "origins such as"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://[0:0::1]:5173", "http://[::1]:5173,"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1],"),
        ("TASKSTORE_ALLOWED_ORIGINS", "http://[1:2:3]", "origins such as"),
        ("TASKSTORE_ROOT_PATH", "/a/../b", "a path such as /tasks"),
        ("TASKSTORE_ROOT_PATH", "/a%20b", "a path such as /tasks"),
        ("TASKSTORE_RATE_BUDGET", "9999", "TASKSTORE_MAX_COST (10000)"),
    ],
)
def test_a_value_that_could_never_work_is_named_at_the_start(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: value})

    message = str(caught.value)
    assert message.count(name) == 1
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TASKSTORE_ALLOWED_ORIGINS", "https://app.example, http://[::1]:5173,capacitor://localhost", 3),
        ("TASKSTORE_ALLOWED_ORIGINS", "*", 1),
        (
            "TASKSTORE_ALLOWED_ORIGINS",
            "http://10.0.2.2:3000,http://a_b.example,https://xn--4dbcd.example,http://[2001:db8::1]",
            4,
        ),
        (
            "TASKSTORE_ALLOWED_ORIGINS",
            "chrome-extension://abcdefghijklmnop,moz-extension://6f1c2c1e-8b7e-4c39-9a5d-0e5f6a7b8c9d",
            2,
        ),
        ("TASKSTORE_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32, 127.0.0.1", 3),
        ("TASKSTORE_DEMO_HOSTS", "host.docker.internal, 10.0.2.2", 2),
        ("TASKSTORE_ROOT_PATH", "/tasks/", 1),
        ("TASKSTORE_HOST", "::", 1),
    ],
)
def test_a_text_of_the_right_form_is_taken(name: str, value: str, expected: int) -> None:
    loaded = load({name: value})

    assert len(getattr(loaded, name.removeprefix("TASKSTORE_").lower()).split(",")) == expected


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_a_secret_in_the_wrong_variable_is_not_repeated(field: "dataclasses.Field[object]") -> None:
    said = [refusal(settings.variable(field.name), value) for value in (SECRET, f"{SECRET}, x", SECRET * 200)]

    assert "s3cret-word" not in "".join(said)
    assert all(len(line) < 400 for line in said)


def refusal(name: str, value: str) -> str:
    """What a variable is refused with, if it is."""
    try:
        load({name: value})
    except SettingsError as error:
        return str(error)
    return ""


def test_a_name_in_capitals_is_the_same_host() -> None:
    assert load({"TASKSTORE_HOST": "LocalHost"}).host == "localhost"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"TASKSTORE_PORT": "99999", "TASKSTORE_WORKERS": "0", "TASKSTORE_NONSENSE": "1"})

    assert all(name in str(caught.value) for name in ("TASKSTORE_PORT", "TASKSTORE_WORKERS", "TASKSTORE_NONSENSE"))


def test_every_number_has_an_upper_bound_that_a_clock_and_a_database_can_count() -> None:
    bounded = 0
    for field in dataclasses.fields(Settings):
        if field.type in (int, float):
            with pytest.raises(SettingsError, match="at most"):
                load({settings.variable(field.name): "1000000000001"})
            bounded += 1

    assert bounded > 20


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    assert load({"TASKSTORE_DATA_DIR": "~/tasks"}).data_dir == Path("/home/ada/tasks")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A='pa$$word${HOME}'\n", "pa$$word${HOME}"),
        (b'A="x-${B}"\n', "x-seen"),
        (b"A=x-${B}\n", "x-seen"),
        (b"A=${NOTHING:-fallback}\n", "fallback"),
        (b"export A=plain\r\nC=1\r\n", "plain"),
        (b"\xef\xbb\xbfA=plain\n", "plain"),
        ("A=Größe # a comment\n".encode(), "Größe"),
        (b"# A=1\nA=2\n", "2"),
    ],
)
def test_a_dotenv_file_means_what_a_shell_would_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: str
) -> None:
    monkeypatch.setenv("B", "seen")
    monkeypatch.delenv("NOTHING", raising=False)
    (tmp_path / ".env").write_bytes(content)

    assert settings.dotenv(tmp_path / ".env")["A"] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("TASKSTORE_PORT=1\n".encode("utf-16"), "UTF-8"),
        ("TASKSTORE_PORT=1\n".encode("utf-16-le"), "UTF-8"),
        ("TASKSTORE_PORT=1\n".encode("utf-16-be"), "UTF-8"),
        ("TASKSTORE_PORT=1\n".encode("utf-32"), "UTF-8"),
        ("TASKSTORE_PORT=1\n".encode("utf-32-be"), "UTF-8"),
        ("# Größe\n".encode("latin-1"), "UTF-8"),
        (b"TASKSTORE_PORT=1\nwhat is this\nand='this\n", "line 2"),
        (b"# of a comment and a name\n\nDATABASE_URL\n", "line 3: expected NAME=value"),
    ],
)
def test_a_dotenv_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(SettingsError, match=f"^.env.*{expected}"):
        settings.dotenv(tmp_path / ".env")


def test_a_directory_in_place_of_the_dotenv_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    with pytest.raises(SettingsError, match=r"^\.env cannot be read: Is a directory$"):
        settings.dotenv(tmp_path / ".env")
