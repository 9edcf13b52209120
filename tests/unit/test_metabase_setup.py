"""The set-up of Metabase by its API, against a stand-in that keeps what it is given as Metabase does."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.metabase import setup
from deploy.metabase.setup import GRID, Dashboard, Question, dashboards, laid_out

ACCOUNT = ("admin@example.org", "a-long-password")


class Metabase(BaseHTTPRequestHandler):
    """As much of Metabase's API as is used: it refuses what Metabase refuses."""

    def log_message(self, *_): ...

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.answer("POST")

    def do_PUT(self):
        self.answer("PUT")

    def answer(self, method):
        kept = self.server.kept
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        path, _, query = self.path.removeprefix("/api/").partition("?")
        kept["calls"].append(f"{method} {path}")
        is_open = (method, path) in {
            ("GET", "health"),
            ("GET", "session/properties"),
            ("POST", "setup"),
            ("POST", "session"),
        }
        if not is_open and self.headers["X-Metabase-Session"] != "token":
            return self.say(401, "Unauthenticated")
        match method, *path.split("/"):
            case "GET", "health":
                kept["asked"] += 1
                return self.say(*((200, {"status": "ok"}) if kept["asked"] > 1 else (503, {"status": "initializing"})))
            case "GET", "session", "properties":
                return self.say(200, {"has-user-setup": kept["account"] is not None, "setup-token": "first"})
            case "POST", "setup":
                if kept["account"] or body["token"] != "first" or body["prefs"]["allow_tracking"]:
                    return self.say(403, "The /api/setup route can only be used once")
                kept["account"] = body["user"]["email"], body["user"]["password"]
                return self.say(200, {"id": "token"})
            case "POST", "session":
                right = (body["username"], body["password"]) == kept["account"]
                return self.say(*((200, {"id": "token"}) if right else (401, "did not match stored password")))
            case "GET", "collection", number, "items":
                kind = re.search(r"models=(\w+)", query)[1]
                found = [
                    {"id": i, "name": one["name"]}
                    for i, one in kept[kind].items()
                    if one["collection_id"] == int(number)
                ]
                return self.say(200, {"data": found})
            case "GET", ("database" | "collection") as kind:
                found = [{"id": i, "name": one["name"]} for i, one in kept[kind].items()]
                return self.say(200, {"data": found} if kind == "database" else found)
            case "POST", ("database" | "collection" | "card" | "dashboard") as kind:
                number = len(kept[kind]) + 1
                kept[kind][number] = body
                return self.say(200, {"id": number, **body})
            case "PUT", ("database" | "card" | "dashboard") as kind, number:
                for card in body.get("dashcards", ()):
                    if card["card_id"] not in kept["card"]:
                        return self.say(400, "no such card")
                kept[kind][int(number)] |= body
                return self.say(200, {"id": int(number)})
        return self.say(404, "API endpoint does not exist.")

    def say(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def kept(monkeypatch):
    """What the stand-in has; the set-up finds it by the environment."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metabase)
    kinds = ("database", "collection", "card", "dashboard")
    server.kept = {kind: {} for kind in kinds} | {"account": None, "calls": [], "asked": 0}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("METABASE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("METABASE_EMAIL", ACCOUNT[0])
    monkeypatch.setenv("METABASE_PASSWORD", ACCOUNT[1])
    monkeypatch.setenv("CANDLECAST_READ_PASSWORD", "looks-only")
    monkeypatch.setattr(setup.time, "sleep", lambda seconds: None)
    yield server.kept
    server.shutdown()
    server.server_close()


def test_everything_is_set_up_and_a_second_run_doubles_nothing(kept):
    setup.main()
    first = {kind: dict(kept[kind]) for kind in ("database", "collection", "card", "dashboard")}
    assert kept["account"] == ACCOUNT
    (database,) = first["database"].values()
    assert database["engine"] == "postgres" and database["details"]["user"] == "candlecast_read"
    assert [one["name"] for one in first["dashboard"].values()] == [board.name for board in dashboards()]
    assert len(first["card"]) == sum(len(board.questions) for board in dashboards())
    for board, made in zip(dashboards(), first["dashboard"].values(), strict=True):
        names = [first["card"][card["card_id"]]["name"] for card in made["dashcards"]]
        assert names == [question.name for question in board.questions]
    for card in first["card"].values():
        assert card["dataset_query"]["type"] == "native" and card["dataset_query"]["database"] == 1
        assert "SELECT" in card["dataset_query"]["native"]["query"]
    setup.main()
    assert {kind: dict(kept[kind]) for kind in first} == first
    assert kept["calls"].count("POST setup") == 1


def test_a_wrong_password_says_what_metabase_says(kept, monkeypatch):
    setup.main()
    monkeypatch.setenv("METABASE_PASSWORD", "another")
    with pytest.raises(SystemExit, match=r"401.*did not match"):
        setup.main()


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.delenv("METABASE_EMAIL", raising=False)
    with pytest.raises(SystemExit, match="METABASE_EMAIL"):
        setup.main()


def test_cards_fill_the_grid_without_covering_one_another():
    for board in dashboards():
        taken = set()
        for place in laid_out(board, list(range(len(board.questions)))):
            cells = {
                (place["col"] + x, place["row"] + y) for x in range(place["size_x"]) for y in range(place["size_y"])
            }
            assert not cells & taken and max(x for x, _ in cells) < GRID, board.name
            taken |= cells


def test_a_question_without_a_title_is_refused(tmp_path):
    (tmp_path / "README").write_text("Board\n")
    (tmp_path / "01.sql").write_text("-- display: table\nSELECT 1;\n")
    with pytest.raises(SystemExit, match="title"):
        Dashboard.read(tmp_path)
    (tmp_path / "01.sql").write_text("-- title: One\n-- display: line\n-- x: a\n-- by: b\n-- y: c, d\nSELECT 1;\n")
    question = Question.read(tmp_path / "01.sql")
    assert (question.x, question.y, question.sql) == (("a", "b"), ("c", "d"), "SELECT 1")
