from pathlib import Path

import pytest

from steepest.compare import without_password
from steepest.compare._queue.url import fixed_location, hide_secrets, locate
from steepest.errors import InvalidArgument, StorageError


@pytest.mark.parametrize(
    ("storage", "shown"),
    [
        ("postgresql://me:secret@host/trial", "postgresql://me:***@host/trial"),
        ("postgresql+psycopg2://me:secret@host:5432/trial", "postgresql+psycopg2://me:***@host:5432/trial"),
        ("postgresql://:secret@host/trial", "postgresql://:***@host/trial"),
        ("postgresql://me@host/trial?password=secret&x=1", "postgresql://me@host/trial?password=***&x=1"),
        ("mysql://host/trial?passwd=secret", "mysql://host/trial?passwd=***"),
        ("mysql://host/trial?ssl_key=a&PWD=secret", "mysql://host/trial?PWD=***&ssl_key=***"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BPWD%3Dsecret", "mssql+pyodbc:///?odbc_connect=***"),
        ("postgresql://me:secret@host:port/trial", "postgresql://***@host:port/trial"),
        ("mysql://me:se@secret@host/trial", "mysql://***@host/trial"),
        ("me:secret@host/trial", "***@host/trial"),
        ("postgresql:/me:secret@host", "***@host"),
        ("host=x password=secret user=me", "host=x password=*** user=me"),
        ("host=x password='se secret' user=me", "host=x password=*** user=me"),
    ],
)
def test_no_password_is_shown_wherever_it_stands(storage, shown):
    assert without_password(storage) == shown


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:///a:b@c/trial.db",
        "sqlite:////folder/what?x=1",
        "sqlite:///p%41q/trial.db",
        "sqlite://",
        "postgresql://me@host/trial",
        "postgresql://host/a%20b",
        "nonsense",
        "",
        Path("a:b@c/trial.db"),
    ],
)
def test_what_holds_no_password_is_shown_as_it_is(storage):
    assert without_password(storage) == str(storage)


def test_a_password_is_hidden_in_other_texts_however_it_is_written():
    url = "postgresql://me:s%40cre+t@host/trial?sslpassword=other"
    text = f"compare --storage={url}: wrong s@cre+t (s%40cre+t, s%40cre%2Bt), other"
    assert hide_secrets(text, url) == (
        "compare --storage=postgresql://me:***@host/trial?sslpassword=***: wrong *** (***, ***), ***"
    )


def test_a_short_password_does_not_hide_parts_of_words():
    assert hide_secrets("a fatal error: a is wrong", "postgresql://me:a@host/x") == "*** fatal error: *** is wrong"


def test_nothing_is_hidden_where_there_is_no_password():
    for storage in ("sqlite:///trial.db", "postgresql://me@host/x", Path("trial.db"), "nonsense"):
        assert hide_secrets("me at host/x: trial.db", storage) == "me at host/x: trial.db"


def test_a_path_becomes_a_url_of_the_same_file():
    path = Path("/folder/what?x=1&y/p%41q/# '\"é\udcff {x}/study.db")
    assert locate(path).database == str(path)
    assert locate(Path("study.db")).database == str(Path.cwd() / "study.db")


@pytest.mark.parametrize(
    "storage", ["", "nonsense", "me:secret@host/x", "postgresql://me:secret@host:port/x", "a b://"]
)
def test_what_is_no_url_is_refused_without_its_password(storage):
    with pytest.raises(StorageError, match="must be a URL") as caught:
        locate(storage)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("storage", [3, True, b"sqlite:///x", 1.5, ["sqlite:///x"]])
def test_what_is_neither_a_path_nor_a_text_is_refused(storage):
    with pytest.raises(InvalidArgument, match="storage must be a URL or a path"):
        locate(storage)


def test_a_relative_file_stays_where_it_is_when_the_folder_changes(tmp_path, monkeypatch):
    tmp_path = tmp_path / "p%41q"
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    fixed = [fixed_location(where) for where in ("sqlite:///a b/x.db", Path("what?.db"), "sqlite:///x.db?timeout=5")]
    monkeypatch.chdir("/")
    assert [locate(each).database for each in fixed] == [
        str(tmp_path / "a b/x.db"),
        str(tmp_path / "what?.db"),
        str(tmp_path / "x.db"),
    ]
    assert locate(fixed[2]).query == {"timeout": "5"}


@pytest.mark.parametrize(
    "storage", ["sqlite://", "sqlite:///:memory:", "sqlite:////x.db", "postgresql://me:secret@host/x", "nonsense"]
)
def test_any_other_storage_is_where_it_is(storage):
    assert fixed_location(storage) == storage
