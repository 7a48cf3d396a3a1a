"""Downloads from a server that breaks off, lies, or is not there."""

import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from levelfield.data import download
from levelfield.data.download import DownloadError, RefusedError, at_hand, fetch
from levelfield.errors import UserError, without_secrets

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT with ranges; `behaviour` is used up one a request: a status, the bytes after which it cuts off,
    where it leads, its headers and body, or for how long it says nothing."""

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
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", value)
            return self.end_headers()
        if kind == "headers":
            self.send_response(value.get("status", 200))
            for name, told in value["headers"].items():
                self.send_header(name, told)
            self.end_headers()
            return self.wfile.write(value.get("body", server.content))
        if kind == "silence":
            threading.Event().wait(value)  # no `time.sleep`, which the tests take away
            return None
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


def test_two_that_fetch_at_once_do_not_write_into_one_part(server, tmp_path, capsys):
    """The first one holds the folder; the second waits, and finds the file there."""
    other, found = threading.Thread(target=lambda: found.append(fetch(server.url, tmp_path / "imdb.npz", SHA256))), []
    with download._alone(tmp_path):
        other.start()
        other.join(0.5)
        assert other.is_alive() and not server.ranges_asked
        (tmp_path / "imdb.npz").write_bytes(CONTENT)
    other.join(10)
    assert found == [tmp_path / "imdb.npz"] and not server.ranges_asked
    assert "waiting for another download" in capsys.readouterr().err


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


def lies(*, headers=None, body=CONTENT, status=200):
    return "headers", {"headers": headers or {}, "body": body, "status": status}


LIES = {
    "a length too great": [lies(headers={"Content-Length": str(2 * len(CONTENT))})] * 4,
    "a length too small": [lies(headers={"Content-Length": "1000"})],
    "a length that is none": [lies(headers={"Content-Length": "many"}, body=CONTENT[:-1])],
    "a negative length": [lies(headers={"Content-Length": "-1"}, body=CONTENT[:-1])],
    "no length, cut off": [lies(body=CONTENT[:70_000])],
    "a page with 200": [lies(headers={"Content-Type": "text/html"}, body=b"<html>please log in</html>")],
    "nothing at all": [lies(headers={"Content-Length": "0"}, body=b"")],
    "gzip that is none": [lies(headers={"Content-Encoding": "gzip"})] * 4,
    "chunks that are none": [lies(headers={"Transfer-Encoding": "chunked"})] * 4,
    "204": [lies(status=204, body=b"")],
    "a range that nobody asked for": [lies(status=206, headers={"Content-Range": f"bytes 9-{len(CONTENT)}/{len(CONTENT)}"})]
    * 4,
    "redirects in a ring": [("redirect", "/imdb.npz")] * 40,
    "a redirect to a file": [("redirect", "file:///etc/passwd")] * 4,
    "a redirect to nowhere": [("redirect", "http://127.0.0.1:9/imdb.npz")] * 4,
    "a redirect to no address": [("redirect", "http://[")] * 4,
    "403": [("status", 403)],
    "500 for ever": [("status", 500)] * 4,
    "silence": [("silence", 0.5)] * 4,
}


@pytest.mark.parametrize("kind", LIES)
def test_a_server_that_lies_is_told_in_one_line(server, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(download, "TIMEOUTS", (1, 0.2 if kind == "silence" else 10))
    server.behaviour = list(LIES[kind])
    with pytest.raises(DownloadError) as caught:
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert not (tmp_path / "imdb.npz").exists(), "nothing stands under the final name"


@pytest.mark.parametrize("kind", LIES)
def test_a_server_that_has_lied_and_then_tells_the_truth(server, tmp_path, monkeypatch, kind):
    """What the lie left is no hindrance: the file is fetched whole, at the latest by the second call."""
    monkeypatch.setattr(download, "TIMEOUTS", (1, 0.2 if kind == "silence" else 10))
    server.behaviour = list(LIES[kind])
    with pytest.raises(DownloadError):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    server.behaviour = []
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT


def test_a_redirect_to_the_right_file_is_followed(server, tmp_path):
    server.behaviour = [("redirect", "/elsewhere/imdb.npz")]
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT


def test_a_part_of_another_file_is_not_gone_on_with_for_ever(server, tmp_path):
    (tmp_path / "imdb.npz.part").write_bytes(b"another" * 1000)
    assert fetch(server.url, tmp_path / "imdb.npz", SHA256).read_bytes() == CONTENT


def test_a_drip_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0)
    monkeypatch.setattr(download, "SLOWEST", 10**12)
    with pytest.raises(DownloadError, match=r"sends [0-9]+ bytes a second; what came is kept as .*imdb.npz.part"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there(server, tmp_path, monkeypatch, variable):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, "/nowhere/certificates.pem")
    with pytest.raises(DownloadError, match=f"{variable} names /nowhere/certificates.pem, which is not there: unset it"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)


@pytest.mark.parametrize("place", ["#x@proxy:1", "/x@proxy:1", "?x@proxy:1", "@proxy:99999", "@proxy:312800", "@proxy:a"])
def test_of_a_proxys_address_that_cannot_be_read_nothing_is_told(tmp_path, monkeypatch, place):
    """The libraries tell all of it, or what they take for its host, which is name and password where the latter has a `#`."""
    monkeypatch.setenv("https_proxy", f"http://ada:hunter2{place}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match=r"an address cannot be read, the proxy's or .*: look at HTTPS_PROXY") as caught:
        fetch("https://levelfield.invalid/imdb.npz", tmp_path / "imdb.npz", SHA256)
    assert not re.search(r"ada|hunter2|proxy:", str(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        "Failed to parse: http://ada:hunter2@proxy:3128, and more",
        "https://ada:p@hunter2@host/ and --remote_token=hunter2",
        "api_key=hunter2&level=3",
        "/data/user@host/cache",
        "nothing of the kind",
    ],
)
def test_what_is_told_of_a_download_holds_no_secret(text):
    assert str(DownloadError(text)) == str(RefusedError(text)) == without_secrets(text)
    assert "hunter2" not in without_secrets(text)
    assert without_secrets("http://ada:hun/ter2@proxy:3128") == "http://***@proxy:3128"


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "downloads").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"downloads.*cannot be written"):
        fetch(server.url, tmp_path / "downloads" / "imdb.npz", SHA256)


def test_a_full_disk_leaves_nothing_under_the_final_name(server, tmp_path):
    (tmp_path / "imdb.npz.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        fetch(server.url, tmp_path / "imdb.npz", SHA256)
    assert not (tmp_path / "imdb.npz").exists()
