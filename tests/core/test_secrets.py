"""What is taken for a secret, what is not, and that nothing else of a text changes."""

import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ralph.core.secrets import LONGEST, Finding, Redactor, looks_random, secret_values, spans_to
from ralph.events import Refused, RunEnded
from ralph.model import Outcome

ROOT = Path(__file__).parents[2]
REDACT = Redactor()
BODY = "Zq3Xv9Lm2Rt7Wb5Nc8Kd1Hf6Jg4Ps0Yq"  # 32 characters that nobody thought up
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA{BODY}\n{BODY}+/{BODY}==\n-----END RSA PRIVATE KEY-----"
SECRETS = {
    "sk-ant-api03-" + BODY: "Anthropic key",
    "sk-" + BODY: "key in the form sk-…",
    "sk-proj-" + BODY[:20] + "_" + BODY[:20]: "key in the form sk-…",
    "ghp_" + BODY + "abcd": "GitHub token",
    "gho_" + BODY + "abcd": "GitHub token",
    "github_pat_11ABCDEFG0" + BODY: "GitHub token",
    "glpat-" + BODY[:20]: "GitLab token",
    "AKIAIOSFODNN7EXAMPLE": "AWS key id",
    "AIza" + BODY + "abc": "Google key",
    "xoxb-123456789012-" + BODY[:24]: "Slack token",
    "xoxp-123456789012-" + BODY[:24]: "Slack token",
    "hf_" + BODY + "ab": "Hugging Face token",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{BODY}": "JSON web token",
    PEM: "private key",
    PEM.replace("\n", " "): "private key",
    PEM.replace("\n", "\\n"): "private key",
    PEM.replace("RSA ", "OPENSSH "): "private key",
}
ASSIGNED = (
    'api_key = "{}"', "API_KEY={}", "OPENAI_API_KEY: {}", '{{"api_key": "{}"}}', "client_secret='{}'",
    "export WANDB_API_KEY={}", '\\"access_token\\": \\"{}\\"', "aws_secret_access_key = {}", "password: '{}'",
    "Authorization: Bearer {}", "authorization: bearer {}", "https://user:{}@example.org/simple", "--token={}",
)  # fmt: skip
VALUES = (BODY, "5f2b9c1d7e3a4b6c8d0e1f2a3b4c5d6e", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY")
INNOCENT = (
    "commit 3dbae55e3b0c44298fc1c149afbf4c8996fb9242",
    f"sha256: {hashlib.sha256(b'x').hexdigest()}",
    f'TOKENIZER_SHA256 = "{hashlib.sha256(b"y").hexdigest()}"',
    f"data.sha256 = '{hashlib.sha256(b'z').hexdigest()}'",
    "index 3dbae55..6908979 100644",
    "image = 'data:image/png;base64,iVBORw0KGgo='",
    "nonce = base64.b64encode(b'AAECAwQFBgcICQ==')",
    "special_token = '<|endoftext|>'",
    "tokenizer = 'meta-llama/Llama-3.1-8B-Instruct'",
    "eos_token: climbmix_shard_00001.bin",
    "token_bytes = torch.zeros(VOCAB_SIZE, dtype=torch.int32)",
    "MAX_TOKENS = 100000000000000000",
    "password = get_password_from_the_environment()",
    "api_key = os.environ['OPENAI_API_KEY']",
    "private_key = Ed25519PrivateKey.generate()",
    "sorted(values, key=lambda value: value.score)",
    "a task-force of risk-averse desk-bound people, sk-learn, ask_for_more",
    "if text.startswith('-----BEGIN RSA PRIVATE KEY-----'):",
    "bearer of good tidings to everybody",
    "RALPH_GATEWAY_KEY=ralph-dummy-5f2b9c1d7e3a4b6c8d0e1f2a3b4c5d6e",
    "val_bpb: 0.997900 tok/sec: 123,456 key: value token: 12",
    "def hf_hub_download_with_retries_and_a_cache(): ...",
    "http://localhost:8000/v1 and git@github.com:karpathy/autoresearch.git",
)


@pytest.mark.parametrize(("secret", "what"), SECRETS.items(), ids=lambda v: str(v)[:24])
@pytest.mark.parametrize("around", ["{}", "said {} and went on", "x = '{}'", '{{"a": "{}"}}', "+    KEY={}\n"])
def test_whatever_looks_like_a_key_is_replaced_by_what_it_is(secret: str, what: str, around: str) -> None:
    text = around.format(secret)
    redacted = REDACT(text)
    assert redacted == text.replace(secret, f"[redacted: {what}]")
    assert REDACT(redacted) == redacted


@pytest.mark.parametrize("around", ASSIGNED)
@pytest.mark.parametrize(
    "value", [BODY, "5f2b9c1d7e3a4b6c8d0e1f2a3b4c5d6e", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"]
)
def test_what_is_assigned_to_the_name_of_a_secret_goes_and_the_name_stays(value: str, around: str) -> None:
    text = around.format(value.replace("/", "x") if "://" in around else value)
    redacted = REDACT(text)
    assert value not in redacted
    assert "[redacted: " in redacted
    assert redacted.startswith(text[:5])


@pytest.mark.parametrize("text", INNOCENT)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert REDACT.find(text) == []
    assert REDACT(text) == text


def test_no_source_file_of_this_repository_is_changed_but_those_that_plant_secrets() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = {
        name for name in names if (ROOT / name).is_file() and REDACT.find((ROOT / name).read_text(errors="replace"))
    }
    assert {name for name in found if not name.startswith("tests/")} == set()


def test_of_a_private_key_without_an_end_everything_goes_that_could_be_of_it() -> None:
    cut = PEM.partition("-----END")[0]
    assert REDACT(f"said {cut}") == "said [redacted: private key]"
    assert BODY not in REDACT(f"said {cut}: and went on")
    assert REDACT(f"said {cut}: and went on").endswith(": and went on")


def test_a_known_value_is_found_as_it_is_in_json_and_in_a_url() -> None:
    value = 'cor"rect/horse battery'
    redact = Redactor({"MY_TOKEN": value})
    for form in (value, json.dumps({"x": value}), "https://x/?t=cor%22rect%2Fhorse%20battery"):
        assert "[redacted: MY_TOKEN]" in redact(f"before {form} after")
        assert "horse" not in redact(form)


def test_of_a_known_value_of_many_lines_each_longer_line_is_known() -> None:
    redact = Redactor({"DEPLOY_KEY": "-----BEGIN X-----\nfirst line of it all\nshort\n-----END X-----"})
    assert redact("log: first line of it all!") == "log: [redacted: DEPLOY_KEY]!"
    assert redact("short -----BEGIN X-----") == "short -----BEGIN X-----"


def test_a_known_value_shorter_than_eight_characters_is_left_alone() -> None:
    assert Redactor({"TOKEN": "seven77"})("seven77") == "seven77"
    assert Redactor({"TOKEN": "eight888"})("eight888") == "[redacted: TOKEN]"


def test_of_two_that_overlap_all_goes() -> None:
    secret = "sk-ant-" + BODY
    redact = Redactor({"PART": BODY[:16], "WHOLE": "key " + secret})
    assert redact(f"a key {secret} b") == "a [redacted: WHOLE] b"


def test_what_a_change_adds_is_named_by_line_and_what_was_there_before_is_not() -> None:
    before = f"A = 1\nKEY = 'sk-ant-{BODY}'\n"
    assert REDACT.added(before, before + "B = 2\n") is None
    assert REDACT.added("A = 1\n", before) == (2, "Anthropic key")
    assert REDACT.added("", PEM) == (1, "private key")


def test_every_text_in_an_event_is_redacted_and_nothing_else_changes() -> None:
    secret = "ghp_" + BODY
    event = RunEnded(
        id=1,
        run=2,
        outcome=Outcome.CRASH,
        reason=f"no {secret}",
        tail=f"1\n{secret}\n",
        record={secret: secret, "n": 3},
    )
    clean = REDACT.within(event)
    assert clean == RunEnded(
        id=1, run=2, outcome=Outcome.CRASH, reason="no [redacted: GitHub token]", tail="1\n[redacted: GitHub token]\n",
        record={"[redacted: GitHub token]": "[redacted: GitHub token]", "n": 3},
    )  # fmt: skip
    assert clean.outcome is Outcome.CRASH
    plain = Refused(id=1, attempt=1, reason="x", hypothesis="y", diff="z")
    assert REDACT.within(plain) == plain


def test_deep_inside_of_lists_and_dataclasses_as_well() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Box:
        items: tuple[list[str], ...]

    assert REDACT.within(Box(items=(["hf_" + BODY],))) == Box(items=(["[redacted: Hugging Face token]"],))


def test_only_telling_names_hold_secrets_and_numbers_never_do() -> None:
    environ = {"A_TOKEN": "x" * 9, "MAX_TOKENS": "123456789", "PATH": "/usr/bin:/bin"}
    assert secret_values(environ, lambda name: "TOKEN" in name) == {"A_TOKEN": "x" * 9}


def test_a_cut_goes_through_no_line_and_no_secret() -> None:
    text = f"one\ntwo {PEM} three\nfour"
    found = REDACT.find(text)
    assert spans_to(text, found, 5) == 4
    inside = text.index("MIIE") + 60
    assert text[spans_to(text, found, inside) :].startswith("-----BEGIN")
    assert spans_to("x" * 100, [], 40) == 40
    assert spans_to("x" * 100, [Finding(start=30, end=50, what="")], 40) == 30
    assert max(len(secret) for secret in SECRETS) < LONGEST


@given(st.text(max_size=200))
def test_any_text_is_redacted_without_an_error_and_only_once(text: str) -> None:
    assert REDACT(REDACT(text)) == REDACT(text)


def test_randomness_is_not_seen_in_words() -> None:
    assert not looks_random("the_quick_brown_fox_jumps_over")
    assert not looks_random("aaaaaaaaaaaaaaaaaaaaaaaa")
    assert looks_random("550e8400-e29b-41d4-a716-446655440000")
