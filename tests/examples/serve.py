"""mamba_lm serve, as programs and strangers use it.

    serve.py <mamba_lm> <the model kjv> [--clients 1000]
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

PROMPT = "And it came to pass"
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


class Server:
    """A server on a free port, which must end with code 0."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--model", MODEL, "--port", "0", *map(str, options)],
            stderr=subprocess.PIPE, text=True)
        self.said, self.asked = "", False
        while not (found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.said)):
            line = self.process.stderr.readline()
            assert line, "the server ended: " + self.said
            self.said += line
        self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if failed:
            self.process.kill()
            return
        self.ask_to_end()
        self.said += self.process.communicate(timeout=60)[1]
        print(self.said, flush=True)
        assert self.process.returncode == 0, self.process.returncode

    def ask_to_end(self):
        """Once: a second time would end it at once."""
        if not self.asked and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.asked = True

    def call(self, path, body=None, method=None, headers=None):
        """Status, headers and body of one call; a body that is no text goes as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        headers = {"Content-Type": "application/json"} if headers is None else headers
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        response = connection.getresponse()
        read = response.read()
        connection.close()
        return response.status, response.headers, read

    def get(self, path, body=None):
        status, _, read = self.call(path, body)
        assert status == 200, (status, read)
        return json.loads(read)

    def completion(self, prompt=PROMPT, **fields):
        return self.get(COMPLETIONS, {"prompt": prompt, "max_tokens": 40, "seed": 1, **fields})

    def text(self, prompt=PROMPT, **fields):
        return self.completion(prompt, **fields)["choices"][0]["text"]

    def open(self, body, receive=None, path=COMPLETIONS, more=""):
        """A socket on which a call was sent and nothing read."""
        body = json.dumps(body)
        s = socket.socket()
        s.settimeout(120)
        if receive:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.connect(("127.0.0.1", self.port))
        s.sendall((f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}"
                   f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
        return s

    def streams(self):
        status, _, read = self.call("/health")
        assert status in (200, 503)
        return json.loads(read)["streams"]

    def wait_until(self, what, seconds=60):
        until = time.time() + seconds
        while not what(self.streams()):
            assert time.time() < until, self.streams()
            time.sleep(0.02)


def events(read):
    """The JSON of all events, which end with [DONE]."""
    lines = [line for line in read.decode().split("\n\n") if line and line != ":"]
    assert all(line.startswith("data: ") for line in lines), lines
    assert lines[-1] == "data: [DONE]", lines[-1]
    return [json.loads(line[6:]) for line in lines[:-1]]


def rest_of(s):
    """Body of the answer that comes on a socket."""
    response = http.client.HTTPResponse(s)
    response.begin()
    read = response.read()
    s.close()
    return response.status, read


def completions(server):
    written = subprocess.run(
        [PROGRAM, "generate", "--model", MODEL, "--prompt", PROMPT, "--bytes", "40", "--seed", "1",
         "--temperature", "0.7"], capture_output=True, check=True).stdout.decode()
    answer = server.completion(temperature=0.7, model="kjv", user="me", logit_bias={})
    assert PROMPT + answer["choices"][0]["text"] + "\n" == written, (answer, written)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 19, "completion_tokens": 40, "total_tokens": 59}
    assert server.text(seed=2) != server.text() == server.text() == server.text(top_k=-1)
    assert server.text(seed=-5) == server.text(seed=-5)
    assert server.text(list(PROMPT.encode())) == server.text()
    both = server.completion([PROMPT, "Amen"], n=2, echo=True)["choices"]
    assert [c["index"] for c in both] == [0, 1, 2, 3]
    assert both[0]["text"] == PROMPT + server.text() != both[1]["text"]
    assert both[2]["text"].startswith("Amen")
    assert len(server.text("", temperature=0)) > 0
    assert server.completion(max_tokens=1)["usage"]["completion_tokens"] == 1
    assert len(server.get(COMPLETIONS, {"prompt": PROMPT})["choices"][0]["text"]) <= 16
    assert server.text(temperature=0) == server.text(temperature=0, seed=9)
    assert server.text(top_p=0.5, min_p=0.1, repetition_penalty=1.2) != server.text()
    # A long prompt, by any pieces.
    assert server.text(PROMPT * 100, temperature=0.5) == server.text(PROMPT * 100, temperature=0.5)


def streaming(server):
    for fields in ({}, {"n": 3}, {"echo": True}):
        whole = server.completion(**fields)
        body = {"prompt": PROMPT, "max_tokens": 40, "seed": 1, "stream": True,
                "stream_options": {"include_usage": True}, **fields}
        status, headers, read = server.call(COMPLETIONS, body)
        assert status == 200 and headers["Content-Type"] == "text/event-stream"
        parts = events(read)
        assert parts[-1]["usage"] == whole["usage"] and parts[-1]["choices"] == []
        for choice in whole["choices"]:
            of_it = [c for p in parts for c in p["choices"] if c["index"] == choice["index"]]
            assert "".join(c["text"] for c in of_it) == choice["text"]
            ends = [c["finish_reason"] for c in of_it]
            assert ends[-1] == "length" and set(ends[:-1]) == {None}
    parts = events(server.call(COMPLETIONS, {"prompt": PROMPT, "stream": True})[2])
    assert all("usage" not in part for part in parts)
    # What is written comes while the rest is not: this text would take minutes.
    s = server.open({"prompt": PROMPT, "max_tokens": 100000, "stream": True})
    begun, read = time.time(), b""
    while read.count(b"data: ") < 20:
        read += s.recv(1 << 12)
        assert time.time() < begun + 60, read
    streams = server.streams()
    assert streams["running"] + streams["suspended"] == 1, streams
    s.close()
    server.wait_until(lambda streams: streams["running"] + streams["suspended"] == 0)


def chats(server):
    messages = [{"role": "system", "content": "Speak."},
                {"role": "user", "content": [{"type": "text", "text": "And God "},
                                             {"type": "text", "text": "said"}]}]
    body = {"messages": messages, "max_tokens": 30, "seed": 1}
    answer = server.get(CHAT, body)
    message = answer["choices"][0]["message"]
    assert answer["object"] == "chat.completion" and message["role"] == "assistant"
    prompt = "Speak.\n\nUser: And God said\nAssistant:"
    assert answer["usage"]["prompt_tokens"] == len(prompt)
    assert message["content"] == server.text(prompt, max_tokens=30, stop="\nUser:").lstrip(" \n\t")
    parts = events(server.call(CHAT, {**body, "stream": True})[2])
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [p["choices"][0]["delta"] for p in parts[1:]]
    assert "".join(d.get("content", "") for d in deltas) == message["content"]
    assert server.get(CHAT, {**body, "max_completion_tokens": 3})["usage"]["completion_tokens"] == 3


def stops(server):
    whole = server.text(max_tokens=200)
    for begin, size in ((0, 1), (7, 4), (60, 9), (150, 20)):
        stop = whole[begin:begin + size]
        expected = whole[:whole.find(stop)]
        for text in (stop, [stop, "\u00e9\u00e9"], ["\x01", stop, stop + "zz"]):
            fields = {"max_tokens": 200, "stop": text}
            choice = server.completion(**fields)["choices"][0]
            assert choice["text"] == expected and choice["finish_reason"] == "stop", choice
            read = server.call(COMPLETIONS, {"prompt": PROMPT, "seed": 1, "stream": True, **fields})
            shown = ""
            for part in events(read[2]):
                shown += part["choices"][0]["text"]
                assert expected.startswith(shown), (expected, shown)
            assert shown == expected
    # Of two the one that is complete first; the end of the text gives back what was held.
    assert server.text(stop=[whole[4:30], whole[6:8]], max_tokens=200) == whole[:whole.find(whole[6:8])]
    assert server.text(stop=whole[38:40] + "never") == whole[:40]


def refusals(server):
    good = {"prompt": PROMPT}
    cases = [
        (400, "{"), (400, "[1]"), (400, "null"), (400, b"\xff\xfe"), (400, ""),
        (400, '{"prompt": "a", "prompt": "b"}'), (400, '{"temperature": NaN}'), (400, "[" * 1000),
        (404, {**good, "model": "gpt"}), (400, {**good, "model": 3}), (400, {**good, "tokens": 3}),
        (400, {"prompt": 5}), (400, {"prompt": []}), (400, {"prompt": [[]]}),
        (400, {"prompt": [1, "a"]}), (400, {"prompt": [256]}), (400, {"prompt": [-1]}),
        (400, {"prompt": ["a", 5]}), (400, {"prompt": ["a"] * 65}), (400, {"prompt": [1.5]}),
        (400, {**good, "max_tokens": 0}), (400, {**good, "max_tokens": 10**9}),
        (400, {**good, "max_tokens": 1.5}), (400, {**good, "max_tokens": "1"}),
        (400, {**good, "max_tokens": -1}), (400, {**good, "temperature": -0.1}),
        (400, {**good, "temperature": "hot"}), (400, {**good, "temperature": 1e9}),
        (400, {**good, "top_p": 0}), (400, {**good, "top_p": 1.1}), (400, {**good, "min_p": 2}),
        (400, {**good, "top_k": -2}), (400, {**good, "repetition_penalty": 0.5}),
        (400, {**good, "frequency_penalty": 0.5}), (400, {**good, "presence_penalty": 1}),
        (400, {**good, "stop": ""}), (400, {**good, "stop": 5}), (400, {**good, "stop": ["a"] * 17}),
        (400, {**good, "stop": "a" * 257}), (400, {**good, "stop": [["a"]]}),
        (400, {**good, "seed": "a"}), (400, {**good, "seed": 0.5}), (400, {**good, "n": 0}),
        (400, {**good, "n": 65}), (400, {"prompt": ["a"] * 10, "n": 10}),
        (400, {**good, "echo": 1}), (400, {**good, "stream": "yes"}), (400, {**good, "logprobs": 1}),
        (400, {**good, "stream_options": {}}), (400, {**good, "best_of": 2}),
        (400, {**good, "stream": True, "stream_options": {"usage": True}}),
        (400, {**good, "suffix": "a"}), (400, {**good, "logit_bias": {"1": 5}}),
        (400, {"prompt": "a" * 70000}),
    ]
    chat = {"messages": [{"role": "user", "content": "a"}]}
    cases_of_chat = [
        (400, {}), (400, {"messages": []}), (400, {"messages": "a"}), (400, {"messages": [1]}),
        (400, {"messages": [{"content": "a"}]}), (400, {"messages": [{"role": "x"}]}),
        (400, {"messages": [{"role": "user", "content": 5}]}),
        (400, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        (400, {**chat, "tools": [{}]}), (400, {**chat, "response_format": {"type": "json_object"}}),
        (400, {**chat, "logprobs": True}), (400, {**chat, "prompt": "a"}),
    ]
    for path, list_ in ((COMPLETIONS, cases), (CHAT, cases_of_chat)):
        for want, body in list_:
            status, _, read = server.call(path, body)
            error = json.loads(read)["error"]
            assert status == want and set(error) == {"message", "type", "param", "code"}, (
                status, want, body, read)
            assert error["message"] and error["type"], error
    error = json.loads(server.call(COMPLETIONS, {**good, "top_p": 7})[2])["error"]
    assert error == {"message": "top_p is 7, expected a number above 0 and at most 1",
                     "type": "invalid_request_error", "param": "top_p", "code": "invalid_value"}

    json_ = {"Content-Type": "application/json"}
    for want, path, body, method, headers in (
            (404, "/v1/nothing", None, "GET", {}), (404, "/v1/nothing", "{}", "POST", json_),
            (404, "/v1/models/gpt", None, "GET", {}), (405, COMPLETIONS, None, "GET", {}),
            (405, "/v1/models", "{}", "POST", json_), (405, CHAT, None, "DELETE", {}),
            (415, COMPLETIONS, "{}", "POST", {}),
            (415, COMPLETIONS, "a=b", "POST", {"Content-Type": "application/x-www-form-urlencoded"}),
            (415, COMPLETIONS, "{}", "POST", {**json_, "Content-Encoding": "gzip"}),
            (413, COMPLETIONS, "x" * (1 << 21), "POST", json_),
            (400, "/health", "a body", "GET", {}),
            (404, "/" + "a" * 3000, None, "GET", {})):
        status, _, read = server.call(path, body, method, headers)
        assert status == want and json.loads(read)["error"]["message"], (status, want, path, read)
    pieces = iter([b"x" * 65536] * 40)  # a body whose length nobody says
    try:
        status = server.call(COMPLETIONS, pieces, "POST", json_)[0]
        assert status == 413, status
    except (ConnectionError, http.client.HTTPException):
        pass  # it was hung up on
    assert server.call("/", method="HEAD")[0] == 200
    assert b"<html" in server.call("/")[2]
    assert server.get("/v1/models")["data"][0]["id"] == "kjv" == server.get("/v1/models/kjv")["id"]
    health = server.get("/health")
    assert health["status"] == "ok" and health["bytes_of_state_a_stream"] > 0, health
    # A connection goes on after a refusal.
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for body, want in (("{", 400), (json.dumps(good), 200), ('{"n": 0}', 400)):
        connection.request("POST", COMPLETIONS, body, json_)
        response = connection.getresponse()
        assert response.status == want
        response.read()
    connection.close()


async def one_client(port, i, texts):
    body = json.dumps({"prompt": PROMPT + "!" * (i % 3), "max_tokens": 8, "seed": i % 10,
                       "stream": i % 2 == 0})
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((f"POST {COMPLETIONS} HTTP/1.0\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
    read = await reader.read(-1)
    writer.close()
    head, _, body = read.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    parts = events(body) if i % 2 == 0 else [json.loads(body)]
    texts.setdefault((i % 3, i % 10), set()).add(
        "".join(c["text"] for p in parts for c in p["choices"]))


def many_clients(server):
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    texts = {}

    async def all_clients():
        await asyncio.gather(*(one_client(server.port, i, texts) for i in range(CLIENTS)))

    begun = time.time()
    asyncio.run(all_clients())
    print(f"{CLIENTS} clients at once, 8 tokens each: {time.time() - begun:.1f} s", flush=True)
    # Each as if alone.
    assert len(texts) == 30 and all(len(of_one) == 1 for of_one in texts.values()), texts
    assert texts[(0, 1)] == {server.text(max_tokens=8)}
    server.wait_until(lambda s: s["running"] + s["waiting"] + s["suspended"] == 0)


def slow_readers(server):
    long = {"prompt": PROMPT, "max_tokens": 9000, "seed": 3, "stream": True}
    slow = [server.open(long, receive=4096) for _ in range(3)]
    server.wait_until(lambda s: s["suspended"] == 3, 200)
    begun = time.time()
    assert len(server.text()) > 0
    assert time.time() - begun < 30
    texts = []
    for s in slow:
        status, read = rest_of(s)
        assert status == 200
        texts.append("".join(p["choices"][0]["text"] for p in events(read)))
    assert len(texts[0]) >= 8000 and texts[0] == texts[1] == texts[2]


def half_closed_and_gone(server):
    for fields in ({}, {"stream": True}):
        for count in (5, 3000):
            s = server.open({"prompt": PROMPT, "max_tokens": count, "seed": 1, **fields})
            s.shutdown(socket.SHUT_WR)
            status, read = rest_of(s)
            assert status == 200
            parts = events(re.sub(rb"(?m)^:\n\n", b"", read)) if fields else [json.loads(read)]
            text = "".join(c["text"] for p in parts for c in p["choices"])
            assert len(text) >= count // 2, (fields, count, len(text))
    for fields in ({"stream": True}, {"stream": False}, {"n": 5}):
        s = server.open({"prompt": PROMPT, "max_tokens": 100000, **fields})
        server.wait_until(lambda s: s["running"] > 0)
        s.close()
        server.wait_until(lambda s: s["running"] == 0, 10)
    # One that resets the connection.
    s = server.open({"prompt": PROMPT, "max_tokens": 100000, "stream": True})
    server.wait_until(lambda s: s["running"] > 0)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()
    server.wait_until(lambda s: s["running"] == 0, 10)
    # Two calls sent at once are answered one after the other.
    body = json.dumps({"prompt": PROMPT, "max_tokens": 5})
    call = (f"POST {COMPLETIONS} HTTP/1.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
    with socket.create_connection(("127.0.0.1", server.port), 60) as s:
        s.sendall(call + call)
        s.shutdown(socket.SHUT_WR)
        read = b""
        while more := s.recv(65536):
            read += more
        assert read.count(b"HTTP/1.1 200") == 2, read


def garbage(server):
    draw = random.Random(1)
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    cases = [bytes(draw.randrange(256) for _ in range(draw.randrange(1, 3000))) for _ in range(100)]
    cases += [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n" * 1000, b"GET", b"GET / HTTP/9.9\r\n\r\n",
              b"GET /%ff%00 HTTP/1.1\r\n\r\n", b"GET " + b"/" * 100000 + b" HTTP/1.1\r\n\r\n",
              b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 100000 + b"\r\n",
              b"GET / HTTP/1.1\r\nRange: bytes=" + b"0-0," * 1900 + b"0-0\r\n\r\n",
              b"GET / HTTP/1.1\r\na: " + b"b" * 1000000,
              b"GET /v1/models/" + b"a" * 8000 + b" HTTP/1.1\r\n\r\n",
              b"GET /?" + b"a=b&" * 1500 + b" HTTP/1.1\r\n\r\n",
              head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
              head + b"Content-Length: -5\r\n\r\n{}", head + b"Content-Length: a\r\n\r\n{}",
              head + b"Content-Length: 99999999999999999999\r\n\r\n{}", head + b"\r\n{}",
              head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", head + b"Content-Length: 50\r\n\r\n{}",
              head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
              head + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
              head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
              head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"]
    for case in cases:
        with socket.create_connection(("127.0.0.1", server.port), 60) as s:
            read = b""
            try:
                s.sendall(case)
                s.shutdown(socket.SHUT_WR)
                while more := s.recv(65536):
                    read += more
            except ConnectionError:
                pass
            statuses = re.findall(rb"HTTP/1\.1 (\d+)", read)
            expected = (b"200", b"206", b"400", b"404", b"405", b"408", b"411", b"413", b"414", b"416",
                        b"415", b"100")
            assert all(status in expected for status in statuses), (case[:80], read[:200])
    assert server.get("/health")["status"] == "ok"


def limits():
    long = {"prompt": PROMPT, "max_tokens": 100000, "stream": True}
    with Server("--max-streams", 1, "--max-waiting", 1, "--max-tokens", 100000, "--max-connections",
                8) as server:
        first, second = server.open(long), server.open(long)
        server.wait_until(lambda s: s["running"] == 1 and s["waiting"] == 1)
        status, headers, read = server.call(COMPLETIONS, {"prompt": PROMPT})
        assert status == 429 and headers["Retry-After"], (status, read)
        assert json.loads(read)["error"]["code"] == "queue_full"
        first.close()  # makes room for the one that waits
        assert second.recv(12) == b"HTTP/1.1 200"
        second.close()
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(8)]
        server_full, _, read = server.call("/health")
        assert server_full == 503 and b"too many connections" in read, read
        for s in idle:
            s.close()
        while server.call("/health")[0] == 503:
            time.sleep(0.02)
        server.wait_until(lambda s: s["running"] == 0)
    with Server("--seconds", 3, "--max-tokens", 10**6, "--max-streams", 1, "--idle", 1,
                "--temperature", 0) as server:
        waits = server.open({"prompt": PROMPT, "max_tokens": 10**6})
        server.wait_until(lambda s: s["running"] == 1)
        late, _, read = server.call(COMPLETIONS, {"prompt": PROMPT, "max_tokens": 10**6})
        assert late in (200, 503), (late, read)
        status, read = rest_of(waits)
        choice = json.loads(read)["choices"][0]
        assert status == 200 and choice["finish_reason"] == "length" and choice["text"]
        assert server.text() == server.text(seed=2)  # the server's own temperature
        with socket.create_connection(("127.0.0.1", server.port), 60) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 10\r\n\r\n{")  # and no more
            assert b" 408 " in s.recv(65536)
        with socket.create_connection(("127.0.0.1", server.port), 60) as s:
            assert s.recv(10) == b""  # it says nothing, and is left alone


def drains():
    with Server("--max-tokens", 12000) as server:
        s = server.open({"prompt": PROMPT, "max_tokens": 12000, "stream": True})
        server.wait_until(lambda s: s["running"] == 1)
        server.ask_to_end()
        until = time.time() + 30
        while server.call("/health")[0] != 503:
            assert time.time() < until
        status, headers, read = server.call(COMPLETIONS, {"prompt": PROMPT})
        assert status == 503 and headers["Retry-After"], (status, read)
        status, read = rest_of(s)
        ends = [c["finish_reason"] for p in events(read) for c in p["choices"]]
        assert status == 200 and ends[-1] in ("length", "stop")
    with Server("--max-tokens", 10**6, "--drain", 0.2) as server:
        body = {"prompt": PROMPT, "max_tokens": 10**6}
        sockets = [server.open({**body, "stream": True}), server.open(body)]
        server.wait_until(lambda s: s["running"] == 2)
        server.ask_to_end()
        status, read = rest_of(sockets[0])
        assert status == 200 and b"the server ended before" in read and b"[DONE]" in read
        status, read = rest_of(sockets[1])
        assert status == 503 and b"the server ended before" in read


def random_model(folder, vocab, chat_template=None):
    """A tiny model of random weights with the tokenizer of tests/golden."""
    width, channels, state, rank = 16, 32, 4, 1
    block, draw = "backbone.layers.0.mixer.", random.Random(7)
    shapes = {"backbone.embedding.weight": [vocab, width], "backbone.norm_f.weight": [width],
              "backbone.layers.0.norm.weight": [width], block + "in_proj.weight": [2 * channels, width],
              block + "conv1d.weight": [channels, 1, 4], block + "conv1d.bias": [channels],
              block + "x_proj.weight": [rank + 2 * state, channels],
              block + "dt_proj.weight": [channels, rank], block + "dt_proj.bias": [channels],
              block + "A_log": [channels, state], block + "D": [channels],
              block + "out_proj.weight": [width, channels]}
    header, data = {}, b""
    for name, shape in shapes.items():
        count = 1
        for extent in shape:
            count *= extent
        begin = len(data)
        data += struct.pack(f"<{count}f", *(draw.gauss(0, 0.5) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
    config = {"d_model": width, "n_layer": 1, "vocab_size": vocab, "pad_vocab_size_multiple": 1,
              "ssm_cfg": {"layer": "Mamba1", "d_state": state, "d_conv": 4, "expand": 2},
              "rms_norm": True, "residual_in_fp32": True, "tie_embeddings": True}
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)
    with open(f"{folder}/tokenizer_config.json", "w") as file:
        json.dump({"eos_token": "<|endoftext|>", "chat_template": chat_template}, file)
    golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "tokenizer")
    shutil.copy(f"{golden}/tokenizer.json", folder)


def tokens():
    """Words of a tokenizer, its end of a text, its chats; characters and stops over many tokens."""
    global MODEL
    kjv = MODEL
    with tempfile.TemporaryDirectory() as folder:
        MODEL = folder
        random_model(folder, 816, "{{ '<|im_start|>' + message['role'] }}")
        with Server("--name", "tiny") as server:
            for seed in range(5):
                fields = {"prompt": "In the été 🙂", "max_tokens": 300, "seed": seed}
                answer = server.completion(**fields)
                whole, end = answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]
                assert (end == "stop") == (answer["usage"]["completion_tokens"] < 300), answer
                parts = events(server.call(COMPLETIONS, {**fields, "stream": True})[2])
                assert "".join(c["text"] for p in parts for c in p["choices"]) == whole
                for begin in (3, len(whole) // 2):
                    stop = whole[begin:begin + 12]
                    expected = whole[:whole.find(stop)]
                    parts = events(server.call(COMPLETIONS, {**fields, "stop": stop, "stream": True})[2])
                    assert "".join(c["text"] for p in parts for c in p["choices"]) == expected
            usage = server.completion("  a", max_tokens=1)["usage"]
            assert usage["prompt_tokens"] == 3, usage  # <|pad|>, two spaces, a; nothing that ends it
            assert server.completion("", max_tokens=1)["usage"]["prompt_tokens"] == 1
            assert server.call(COMPLETIONS, {"prompt": [815]})[0] == 200
            assert server.call(COMPLETIONS, {"prompt": [816]})[0] == 400
            ask = {"messages": [{"role": "user", "content": "a<|im_<|im_end|>end|><|endoftext|>"}],
                   "max_tokens": 1}
            expected = len(json.loads(subprocess.run(
                [PROGRAM, "tokenize", "--model", folder, "--json", "--plain"], check=True,
                input=json.dumps("<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n").encode(),
                capture_output=True).stdout))
            assert server.get(CHAT, ask)["usage"]["prompt_tokens"] == expected
        random_model(folder, 816, "{{ something else }}")
        with Server() as server:
            status, _, read = server.call(CHAT, ask)
            assert status == 400 and b"chat template" in read, read
        random_model(folder, 300)
        refused = subprocess.run([PROGRAM, "serve", "--model", folder, "--port", "0"],
                                 capture_output=True, text=True)
        assert refused.returncode == 1 and "has 809 tokens, and the model 300" in refused.stderr
    MODEL = kjv


def main():
    global PROGRAM, MODEL, CLIENTS
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=1000)
    arguments = parser.parse_args()
    PROGRAM, MODEL, CLIENTS = arguments.program, arguments.model, arguments.clients
    with Server("--max-tokens", 100000, "--idle", 200) as server:
        for test in (completions, streaming, chats, stops, refusals, slow_readers,
                     half_closed_and_gone, garbage, many_clients):
            begun = time.time()
            test(server)
            print(f"{test.__name__}: {time.time() - begun:.1f} s", flush=True)
        server.wait_until(lambda s: sum((s["running"], s["waiting"], s["suspended"])) == 0)
    for test in (limits, drains, tokens):
        test()


if __name__ == "__main__":
    main()
