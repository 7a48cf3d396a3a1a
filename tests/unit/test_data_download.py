"""Downloads from a server that breaks off, lies, or is not there."""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from levelfield.data import download
from levelfield.data.download import DownloadError, RefusedError, at_hand, fetch

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT with ranges; `behaviour` is used up one a request: a status, or the bytes after which it cuts off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour, self.ranges_asked, self.ranges, self.content = [], [], True, CONTENT
        self.url = f"http://127.0.0.1:{self.server_port}/imdb.npz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.ranges_asked.append(asked)
        kind, value = server.behaviour.pop(0) if server.behaviour else ("whole", None)
        if kind == "status":
            return self.send_error(value)
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if first >= len(server.content):
            return self.send_error(416)
        body = server.content[first:]
        self.send_response(206 if asked and server.ranges else 200)
        self.send_header("Content-Length", str(len(body)))
        if asked and server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(body[:value] if kind == "cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _seconds: None)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_whole_file_gets_its_final_name(server, tmp_path):
    assert fetch(server.url, tmp_path / "downloads" / "imdb.npz", SHA256).read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "downloads").iterdir()] == ["imdb.npz"]


def test_a_broken_transfer_is_gone_on_with(server, tmp_path):
    server.behaviour = [("cut", 2 * 65_536), ("status", 503), ("cut", 3 * 65_536)]
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT
    assert server.ranges_asked[0] is None
    assert server.ranges_asked[1:] == ["bytes=131072-", "bytes=131072-", "bytes=327680-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.behaviour = [("cut", 2 * 65_536)] + 3 * [("status", 503)]
    with pytest.raises(DownloadError, match="the server answered 503"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    assert [file.name for file in tmp_path.iterdir()] == ["imdb.npz.part"]
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT
    assert server.ranges_asked[-1] == "bytes=131072-"


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges, server.behaviour = False, [("cut", 2 * 65_536)]
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_taken(server, tmp_path):
    (tmp_path / "imdb.npz.part").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT


def test_wrong_bytes_are_kept_aside(server, tmp_path):
    server.content = b"<html>please log in</html>"
    with pytest.raises(RefusedError, match=f"expected {SHA256}; kept aside as .*imdb.npz.refused"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    assert [file.name for file in tmp_path.iterdir()] == ["imdb.npz.refused"]


def test_a_refusal_is_not_asked_twice(server, tmp_path):
    server.behaviour = [("status", 404)]
    with pytest.raises(DownloadError, match="the server answered 404"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    assert len(server.ranges_asked) == 1


def test_more_than_is_bearable_is_not_taken(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 500_000)
    with pytest.raises(DownloadError, match="sends more than 500,000 bytes"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    assert not (tmp_path / "imdb.npz").exists()


def test_a_host_that_is_not_there_is_given_up_soon(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = time.monotonic()
    with pytest.raises(DownloadError, match="the host cannot be reached"):
        fetch("http://127.0.0.1:9/imdb.npz", tmp_path / "imdb.npz", SHA256)
    assert time.monotonic() - started < 10


def test_a_copy_at_hand_is_checked(tmp_path, capsys):
    path = tmp_path / "imdb.npz"
    assert not at_hand(path, SHA256)
    path.write_bytes(CONTENT)
    assert at_hand(path, SHA256)
    path.write_bytes(CONTENT[:-1])
    assert not at_hand(path, SHA256)
    assert [file.name for file in tmp_path.iterdir()] == ["imdb.npz.refused"]
    assert "kept aside" in capsys.readouterr().err
