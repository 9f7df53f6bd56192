"""Settings: where they come from, and how a wrong one is told."""

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
