"""mamba_lm serve by the public Python client (pip install openai).

    serve_openai.py <mamba_lm> <the model kjv>
"""

import asyncio
import re
import signal
import subprocess
import sys

import openai

PROMPT = "And it came to pass"


def completions(client):
    answer = client.completions.create(model="kjv", prompt=PROMPT, max_tokens=50, seed=1,
                                       temperature=0.7, extra_body={"top_k": 50, "min_p": 0.01})
    text = answer.choices[0].text
    assert len(text) == 50 and answer.usage.total_tokens == len(PROMPT) + 50, answer
    parts = list(client.completions.create(model="kjv", prompt=PROMPT, max_tokens=50, seed=1,
                                           temperature=0.7, stream=True,
                                           extra_body={"top_k": 50, "min_p": 0.01},
                                           stream_options={"include_usage": True}))
    assert "".join(p.choices[0].text for p in parts if p.choices) == text
    assert parts[-1].usage == answer.usage
    stopped = client.completions.create(model="kjv", prompt=PROMPT, max_tokens=200, seed=1,
                                        temperature=0.7, stop=[text[20:25]],
                                        extra_body={"top_k": 50, "min_p": 0.01})
    assert stopped.choices[0].text == text[:text.find(text[20:25])]
    assert stopped.choices[0].finish_reason == "stop"


def chats(client):
    messages = [{"role": "system", "content": "Speak as a king."},
                {"role": "user", "content": "Who art thou?"}]
    ask = dict(model="kjv", messages=messages, max_tokens=40, seed=2)
    answer = client.chat.completions.create(**ask)
    message = answer.choices[0].message
    assert message.role == "assistant" and message.content, answer
    parts = list(client.chat.completions.create(**ask, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == message.content
    assert parts[-1].choices[0].finish_reason in ("length", "stop")


def refusals(client):
    assert [model.id for model in client.models.list()] == ["kjv"]
    assert client.models.retrieve("kjv").owned_by == "local"
    for error, fields in ((openai.BadRequestError, {"temperature": -1}),
                          (openai.NotFoundError, {"model": "gpt"}),
                          (openai.BadRequestError, {"frequency_penalty": 1})):
        try:
            client.completions.create(**{"model": "kjv", "prompt": PROMPT, **fields})
            assert False, fields
        except error as refused:
            assert refused.body["message"] and refused.type == refused.body["type"], refused.body


async def many(base):
    async with openai.AsyncOpenAI(base_url=base, api_key="none") as client:
        answers = await asyncio.gather(*(
            client.completions.create(model="kjv", prompt=PROMPT, max_tokens=20, seed=i % 4)
            for i in range(100)))
        assert len({answer.choices[0].text for answer in answers}) == 4


def main():
    server = subprocess.Popen([sys.argv[1], "serve", "--model", sys.argv[2], "--port", "0"],
                              stderr=subprocess.PIPE, text=True)
    said = ""
    while not (found := re.search(r"listening on (http://\S+)", said)):
        said += server.stderr.readline()
    try:
        client = openai.OpenAI(base_url=found[1] + "/v1", api_key="none", max_retries=0)
        for test in (completions, chats, refusals):
            test(client)
            print(test.__name__)
        asyncio.run(many(found[1] + "/v1"))
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert server.returncode == 0, server.returncode


if __name__ == "__main__":
    main()
