"""The page of mamba_lm serve in headless Chromium: a prompt is typed, and the answer streams.

    serve_page.py <mamba_lm> <the model kjv> [--chromedriver /usr/bin/chromedriver]

Needs Debian's chromium and chromium-driver.
"""

import argparse
import json
import re
import signal
import socket
import subprocess
import time
import urllib.request


class Browser:
    """A page, by the WebDriver protocol."""

    def __init__(self, driver):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
        while True:
            try:
                self.ask("GET", "/status")
                break
            except OSError:
                assert self.process.poll() is None, "chromedriver ended"
                time.sleep(0.1)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        capabilities = {"alwaysMatch": {"goog:chromeOptions": {"args": arguments},
                                        "goog:loggingPrefs": {"browser": "ALL"}}}
        session = self.ask("POST", "/session", {"capabilities": capabilities})["sessionId"]
        self.session = f"/session/{session}"

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            self.base + path, None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]

    def do(self, what, body=None, method="POST"):
        return self.ask(method, self.session + what, {} if body is None and method == "POST" else body)

    def at(self, id_):
        found = self.do("/element", {"using": "css selector", "value": "#" + id_})
        return "/element/" + next(iter(found.values()))

    def text(self, id_):
        return self.do(self.at(id_) + "/text", method="GET")

    def type(self, id_, text):
        self.do(self.at(id_) + "/clear")
        self.do(self.at(id_) + "/value", {"text": text})

    def click(self, id_):
        self.do(self.at(id_) + "/click")

    def close(self):
        self.do("", method="DELETE")
        self.process.terminate()
        self.process.wait()


def wait_for(what, seconds=60):
    until = time.time() + seconds
    while not (got := what()):
        assert time.time() < until, what
        time.sleep(0.02)
    return got


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--chromedriver", default="/usr/bin/chromedriver")
    arguments = parser.parse_args()
    server = subprocess.Popen([arguments.program, "serve", "--model", arguments.model, "--port", "0",
                               "--max-tokens", "100000"], stderr=subprocess.PIPE, text=True)
    said = ""
    while not (found := re.search(r"listening on (http://\S+)", said)):
        said += server.stderr.readline()
    browser = Browser(arguments.chromedriver)
    try:
        browser.do("/url", {"url": found[1] + "/"})
        wait_for(lambda: browser.text("model") == "kjv")
        browser.type("prompt", "And Moses said <b>unto</b> them,")
        browser.type("most", "3000")
        browser.click("go")
        lengths = set()
        while not re.search(r"end: length", state := browser.text("state")):
            lengths.add(len(browser.text("written")))
        assert len(lengths) > 3, lengths  # it came piece by piece
        assert browser.text("prompt-shown") == "And Moses said <b>unto</b> them,"
        assert re.match(r"3000 tokens, \d+ a second, first after [\d.]+ s; end: length$", state), state
        print(state, "seen at the lengths", sorted(lengths))

        browser.type("most", "100000")
        browser.click("go")
        wait_for(lambda: len(browser.text("written")) > 100)
        browser.click("stop")
        wait_for(lambda: browser.text("state") == "stopped")
        with urllib.request.urlopen(found[1] + "/health") as health:
            print(json.load(health)["streams"])
        wait_for(lambda: json.load(urllib.request.urlopen(found[1] + "/health"))
                 ["streams"]["running"] == 0, 5)

        browser.type("most", "0")  # the browser itself refuses it; the server would
        browser.type("most", "1000000")
        browser.click("go")
        wait_for(lambda: "expected a whole number from 1 to 100000" in browser.text("state"))
        log = browser.do("/se/log", {"type": "browser"})
        errors = [line for line in log if line["level"] == "SEVERE" and " 400 " not in line["message"]
                  and "favicon" not in line["message"]]
        assert not errors, errors
    finally:
        browser.close()
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0, server.returncode


if __name__ == "__main__":
    main()
