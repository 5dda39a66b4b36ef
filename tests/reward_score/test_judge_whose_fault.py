# Copyright 2026 the MedGRPO-on-verl authors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Whose fault is a reply? What can be understood is a verdict; a filter's refusal is the answer's; all else is ours."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mock_judge_server import DIMENSIONS, MockJudge, Reply, honest  # noqa: E402

from reward_score.judge import (  # noqa: E402
    Judge,
    JudgeError,
    JudgeMalformed,
    JudgeRateLimited,
    JudgeRefused,
    JudgeSettingsError,
    JudgeUnavailable,
    JudgeUnproven,
)
from reward_score.judge.errors import of_judge  # noqa: E402
from reward_score.paid_call import CallError  # noqa: E402
from reward_score.paid_call.endpoint import _content  # noqa: E402
from reward_score.paid_call.failures import Failure, by_report  # noqa: E402

CAPTION = "The surgeon dissects the gallbladder from the liver bed with a hook."
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def outcome(*behaviours, texts=((CAPTION, CAPTION),), **changes):
    """What a judge makes of the last of these texts: the mean of its verdict, or the error's type."""

    def behave(request):
        chosen = behaviours[min(request.number, len(behaviours) - 1)]
        return chosen(request) if callable(chosen) else chosen

    async def ask(judge):
        try:
            for prediction, reference in texts:
                try:
                    found = (await judge.score(prediction, reference, task="rc")).mean
                except JudgeError as error:
                    found = type(error)
            return found
        finally:
            await judge.aclose()

    with MockJudge(behave) as server:
        settings = {"backoff_s": 0.001, "max_attempts": 2, **changes}
        return asyncio.run(ask(Judge(server.base_url, "key", "mock", **settings)))


def choice(message, finish_reason="stop", **more):
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **more}]}
    return Reply(body=body | {"usage": {"prompt_tokens": 900, "completion_tokens": 40}})


def good(request):
    return Reply(honest(request, 4))


# --- a verdict in another form ---------------------------------------------------------------------------------------


def decimals(request):
    return json.dumps({"nonce": request.nonce, **dict.fromkeys(DIMENSIONS, 4.0)})


FORMS = {
    "parts": lambda r: choice({"content": [{"type": "text", "text": honest(r)}]}),
    "parts in two": lambda r: choice(
        {"content": [{"type": "text", "text": honest(r)[:40]}, {"type": "text", "text": honest(r)[40:]}]}
    ),
    "parts with thoughts": lambda r: choice(
        {"content": [{"type": "thinking", "thinking": "{hm}"}, {"type": "text", "text": honest(r)}]}
    ),
    "output_text": lambda r: choice({"content": [{"type": "output_text", "text": honest(r)}]}),
    "an object": lambda r: choice({"content": json.loads(honest(r))}),
    "decimals": lambda r: choice({"content": decimals(r)}),
    "a tool call": lambda r: choice(
        {"content": None, "tool_calls": [{"function": {"name": "verdict", "arguments": honest(r)}}]}, "tool_calls"
    ),
    "a tool call with an object": lambda r: choice(
        {"content": "", "tool_calls": [{"function": {"name": "verdict", "arguments": json.loads(honest(r))}}]}
    ),
    "a function call": lambda r: choice(
        {"content": None, "function_call": {"name": "verdict", "arguments": honest(r)}}, "function_call"
    ),
    "thoughts beside it": lambda r: choice({"content": honest(r), "reasoning_content": "Let me see {draft}."}),
    "no reason given": lambda r: choice({"content": honest(r)}, None),
    "another word for stop": lambda r: choice({"content": honest(r)}, "eos_token"),
    "an unknown reason": lambda r: choice({"content": honest(r)}, "because"),
    "null error": lambda r: choice({"content": honest(r)}, error=None),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_verdict_is_understood_in_whatever_form_it_comes(form):
    assert outcome(FORMS[form]) == 4


@pytest.mark.parametrize("kind", ["text/plain", "text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_is_json_whatever_the_header_calls_it(kind, mark):
    def behave(request):
        return Reply(body=mark.encode() + good(request).payload(), headers={"Content-Type": kind})

    assert outcome(behave) == 4


# --- the infrastructure's --------------------------------------------------------------------------------------------

VERDICTLESS = {
    "a choice's error": (
        choice({"content": ""}, "error", error={"code": 502, "message": "Upstream"}),
        JudgeUnavailable,
    ),
    "a choice's error beside half a text": (choice({"content": "{"}, None, error={"code": 500}), JudgeUnavailable),
    "an error as text": (choice({"content": ""}, "stop", error="upstream failed"), JudgeUnavailable),
    "error": (choice({"content": ""}, "error"), JudgeUnavailable),
    "abort": (choice({"content": ""}, "abort"), JudgeUnavailable),
    "cancelled": (choice({"content": "{"}, "cancelled"), JudgeUnavailable),
    "network_error": (choice({"content": "x"}, "network_error"), JudgeUnavailable),
    "insufficient_system_resource": (choice({"content": ""}, "insufficient_system_resource"), JudgeUnavailable),
    "unknown": (choice({"content": ""}, "a new reason"), JudgeUnavailable),
    "thoughts used up the tokens": (choice({"content": None, "reasoning_content": "hm"}, "length"), JudgeUnavailable),
    "hidden thoughts used them up": (choice({"content": ""}, "length"), JudgeUnavailable),
    "thoughts in the text used them up": (choice({"content": "<think>Hm {"}, "length"), JudgeUnavailable),
    "another word for length": (choice({"content": None, "reasoning": "hm"}, "MAX_TOKENS"), JudgeUnavailable),
    "only thoughts": (choice({"content": "", "reasoning_content": "Four."}), JudgeUnavailable),
    "only thoughts, in parts": (choice({"content": [], "thinking": "Four."}), JudgeUnavailable),
    "no room": (choice({"content": ""}, "model_context_window_exceeded"), JudgeUnavailable),
    "a limit in a 200": (Reply(body={"error": {"code": 429, "message": "Rate limit exceeded"}}), JudgeRateLimited),
    "a limit by name": (Reply(body={"error": {"code": "rate_limit_exceeded", "message": ""}}), JudgeRateLimited),
    "a limit in words": (Reply(body={"error": "Too many requests"}), JudgeRateLimited),
    "a limit in a choice": (choice(None, "error", error={"code": 429, "message": "slow"}), JudgeRateLimited),
    "a key in a 200": (Reply(body={"error": {"code": 401, "message": "no such user"}}), JudgeSettingsError),
    "no choices": (Reply(body={"choices": None, "error": {"message": "oops"}}), JudgeUnavailable),
    "a list": (Reply(body=[]), JudgeUnavailable),
    "a page": (Reply(body=b"<html>hello</html>", headers={"Content-Type": "text/html"}), JudgeUnavailable),
    "nothing yet": (choice({"content": ""}), JudgeUnproven),
    "nothing at all": (choice(None), JudgeUnproven),
    "words": (choice({"content": "I would say four."}), JudgeUnproven),
    "a cut verdict": (choice({"content": '{"nonce": "'}, "length"), JudgeUnproven),
}


@pytest.mark.parametrize("kind", VERDICTLESS)
def test_what_the_answer_is_not_known_to_have_caused_is_the_infrastructures(kind):
    reply, error = VERDICTLESS[kind]
    assert outcome(reply) is error
    assert not error.answer_caused


@pytest.mark.parametrize(
    "reply", [choice({"content": ""}), choice({"content": "Four."}), choice({"content": "{"}, "length")]
)
def test_once_the_judge_has_answered_others_the_answer_is_the_likely_cause(reply):
    assert outcome(good, reply, texts=[("Another text.", CAPTION), (CAPTION, CAPTION)]) is JudgeMalformed


def test_a_verdict_that_was_kept_is_an_answer_too(tmp_path):
    store = str(tmp_path / "store")
    assert outcome(good, store=store) == 4
    assert outcome(choice({"content": "Four."}), store=store, texts=[(CAPTION, CAPTION), ("Else.", CAPTION)]) is (
        JudgeMalformed
    )


TOO_LONG = [
    "This model's maximum context length is 512 tokens. However, you requested 900 tokens.",
    "prompt is too long: 900 tokens > 512 maximum",
    "the request exceeds the available context size",
    "Range of input length should be [1, 512]",
]


@pytest.mark.parametrize("message", TOO_LONG)
def test_a_context_is_too_short_for_the_prompt_until_only_the_answer_can_be_what_is_long(message):
    full = Reply(status=400, body={"error": {"code": "invalid_request_error", "message": message}})
    long = f"{CAPTION} " * 50
    assert outcome(full) is JudgeUnavailable
    assert outcome(full, texts=[(long, CAPTION)]) is JudgeUnavailable
    before = ("Another text.", CAPTION)
    assert outcome(good, full, texts=[before, (long, CAPTION)]) is JudgeRefused
    # The reference is what is long.
    assert outcome(good, full, texts=[before, (CAPTION, long)]) is JudgeUnavailable


# --- content filters -------------------------------------------------------------------------------------------------

FILTERS = [
    (400, {"error": {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}}),
    (400, {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."}),
    (400, {"error": {"code": "invalid_prompt", "message": "Invalid prompt"}}),
    (400, {"error": {"code": "1301", "message": "x"}}),
    (400, {"error": {"code": 1301, "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    (400, {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "code": "invalid_request"}}),
    (400, {"error": {"message": "The request was rejected because it was considered high risk", "type": "x"}}),
    (400, {"error": {"code": "SensitiveContentDetected", "message": "may contain sensitive information"}}),
    (400, {"error": {"message": "Your request was rejected as a result of our safety system."}}),
    (403, {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}),
    (403, {"error": "Content violates usage guidelines."}),
    (422, {"detail": "Blocked by the content policy"}),
    (451, {"error": {"type": "censorship_blocked", "message": "the content is prohibited"}}),
    (500, {"error": {"code": "content_filter", "message": ""}}),
    (200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}, "choices": None}),
    (200, {"promptFeedback": {"blockReason": "SAFETY"}}),
    (200, {"error": {"code": "content_policy_violation", "message": "no"}}),
]


@pytest.mark.parametrize(("status", "body"), FILTERS)
def test_a_content_filter_of_any_provider_is_a_refusal(status, body):
    assert outcome(Reply(status=status, body=body)) is JudgeRefused


@pytest.mark.parametrize(
    "reply",
    [
        choice({"content": "", "refusal": "I cannot."}),
        choice({"content": [{"type": "refusal", "refusal": "I cannot."}]}),
        *(
            choice({"content": ""}, reason)
            for reason in ("content_filter", "SAFETY", "sensitive", "refusal", "PROHIBITED_CONTENT", "ERROR_TOXIC")
        ),
        choice({"content": ""}, "guardrail_intervened"),
        choice({"content": ""}, "error", error={"code": 400, "message": "flagged as unsafe content"}),
        choice({"content": ""}, "error", native_finish_reason="PROHIBITED_CONTENT"),
    ],
)
def test_a_filter_within_a_reply_is_a_refusal(reply):
    assert outcome(reply) is JudgeRefused


NO_FILTERS = [
    (400, {"error": {"message": "Unknown parameter: 'moderation'"}}, JudgeUnavailable),
    (400, {"detail": [{"loc": ["body", "content_filter"], "msg": "extra fields not permitted"}]}, JudgeUnavailable),
    (403, {"error": {"message": "Your account was flagged for abuse and is deactivated"}}, JudgeSettingsError),
    (401, {"error": {"message": "content policy"}}, JudgeSettingsError),
    (429, {"error": {"message": "content filter: too many requests"}}, JudgeRateLimited),
    (503, {"error": {"message": "the moderation service is unavailable"}}, JudgeUnavailable),
    (400, {"error": {"code": "model_not_ready", "message": "safety filter timed out"}}, JudgeUnavailable),
]


@pytest.mark.parametrize(("status", "body", "error"), NO_FILTERS)
def test_words_about_filters_alone_are_no_refusal(status, body, error):
    assert outcome(Reply(status=status, body=body), structured=True) is error


def test_a_setting_adds_codes_of_filters():
    reply = Reply(status=400, body={"error": {"code": "E-77", "message": "no"}})
    assert outcome(reply, structured=True) is JudgeUnavailable
    assert outcome(reply, filter_codes=["e-77"]) is JudgeRefused
    with pytest.raises(JudgeSettingsError, match="filter_codes"):
        Judge("http://127.0.0.1:1/v1", "key", "m", filter_codes="E-77")


REPORTS = [
    (
        400,
        {
            "error": {
                "message": "filtered due to the prompt triggering the content management policy",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
            }
        },
        "JudgeRefused",
    ),
    (
        400,
        {
            "error": {
                "message": "This prompt contains sensitive words that violate Responsible AI practices.",
                "code": 400,
                "status": "INVALID_ARGUMENT",
            }
        },
        "JudgeRefused",
    ),
    (400, {"error": {"message": "Input should be a valid integer, sensitive", "code": "x"}}, "JudgeUnavailable"),
    (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, "JudgeRefused"),
    (
        400,
        {
            "error": {
                "message": "Your prompt was flagged as potentially violating our usage policy",
                "type": "invalid_request_error",
                "code": "invalid_prompt",
            }
        },
        "JudgeRefused",
    ),
    (
        400,
        {"error": {"message": "litellm.ContentPolicyViolationError: AzureException", "type": None, "code": "400"}},
        "JudgeRefused",
    ),
    (
        403,
        {
            "error": {
                "message": 'anthropic/claude requires moderation on OpenRouter. Your input was flagged for "violence".',
                "code": 403,
                "metadata": {"reasons": ["violence"], "flagged_input": "..."},
            }
        },
        "JudgeRefused",
    ),
    (
        403,
        {"error": {"message": "Your organization must be verified to use the model", "code": "x"}},
        "JudgeSettingsError",
    ),
    (
        403,
        {
            "error": {
                "message": "Country, region, or territory not supported",
                "code": "unsupported_country_region_territory",
            }
        },
        "JudgeSettingsError",
    ),
    (
        400,
        {
            "error": {
                "message": "The model produced invalid content. Consider modifying your prompt",
                "type": "model_error",
            }
        },
        "JudgeUnavailable",
    ),
    (
        400,
        {
            "error": {
                "code": "InvalidParameter",
                "message": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
            }
        },
        "JudgeRefused",
    ),
    (
        400,
        {
            "error": {
                "code": "DataInspectionFailed",
                "message": "<400> DataInspectionFailed: Input text data may contain inappropriate content.",
            }
        },
        "JudgeRefused",
    ),
    (
        400,
        {
            "error": {
                "code": "Arrearage",
                "message": "Access denied, please make sure your account is in good standing.",
            }
        },
        "JudgeUnavailable",
    ),
    (
        402,
        {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}},
        "JudgeUnavailable",
    ),
    (200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None}, "JudgeRateLimited"),
    (200, {"base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}, "JudgeRefused"),
    (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "JudgeUnavailable"),
    (200, {"error": {"message": "Provider returned error", "code": 429}}, "JudgeRateLimited"),
    (200, {"error": {"message": "Provider returned error", "code": 502}}, "JudgeUnavailable"),
    (200, {"error": {"message": "Internal Server Error", "code": 500}}, "JudgeUnavailable"),
    (200, {"error_code": 336100, "error_msg": "try again"}, "JudgeUnavailable"),
    (200, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, "JudgeRateLimited"),
    (200, {"detail": "Rate limit exceeded: 5 per 1 minute"}, "JudgeRateLimited"),
    (200, {"status": "error", "message": "too many requests, slow down"}, "JudgeRateLimited"),
    (200, {"success": False, "code": 20041, "message": "The content you sent is considered sensitive"}, "JudgeRefused"),
    (
        451,
        {"code": "content_censored", "message": "The content you provided or machine outputted is blocked."},
        "JudgeRefused",
    ),
    (
        400,
        {
            "error": {
                "message": "The request was rejected because it was considered high risk",
                "type": "content_filter",
            }
        },
        "JudgeRefused",
    ),
    (400, {"error": {"message": "Content blocked by guardrail", "type": "guardrails_violation"}}, "JudgeRefused"),
    (400, {"message": "Content Exists Risk"}, "JudgeRefused"),
    (
        422,
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs are not permitted"}
            ]
        },
        "JudgeUnavailable",
    ),
    (
        400,
        {"error": {"message": "response_format type is unavailable now", "type": "invalid_request_error"}},
        "JudgeUnavailable",
    ),
    (
        400,
        {"error": {"message": "'response_format' json_schema is not supported. The patient's unsafe content"}},
        "JudgeUnavailable",
    ),
    (500, {"error": {"message": "content_filter failed to load"}}, "JudgeUnavailable"),
    (
        503,
        {"error": {"message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}},
        "JudgeUnavailable",
    ),
    (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "JudgeUnavailable"),
    (
        429,
        {
            "error": {
                "message": "You exceeded your current quota",
                "type": "insufficient_quota",
                "code": "insufficient_quota",
            }
        },
        "JudgeRateLimited",
    ),
    (413, {"error": {"message": "Request Entity Too Large"}}, "JudgeUnavailable"),
    (413, {"error": {"message": "Request too large for model: prompt is too long"}}, "JudgeRefused"),
    (
        400,
        {"error": {"message": "Output blocked by content filtering policy", "type": "invalid_request_error"}},
        "JudgeRefused",
    ),
    (
        400,
        {
            "error": {
                "type": "invalid_request_error",
                "message": "Your input contains text that violates our terms of service and acceptable use policy",
            }
        },
        "JudgeRefused",
    ),
    (
        400,
        {"error": {"code": "moderation_blocked", "message": "Your request was rejected by the safety system."}},
        "JudgeRefused",
    ),
    (400, {"error": {"code": "TextSafetyViolation", "message": "text audit failed"}}, "JudgeRefused"),
    (400, {"header": {"code": 10013, "message": "input content audit fail"}}, "JudgeRefused"),
    (400, {"error": {"code": "PROHIBITED_CONTENT", "message": ""}}, "JudgeRefused"),
    (400, {"error": "blocked for safety reasons"}, "JudgeRefused"),
    (400, {"error": {"message": "prompt violates policy: self-harm"}}, "JudgeRefused"),
    (400, {"error": {"message": "Request blocked by firewall policy"}}, "JudgeUnavailable"),
    (400, {"error": {"message": "Model not loaded"}}, "JudgeUnavailable"),
    (400, {"error": {"message": "the candidate text quoted: sensitive tissue and unsafe clip"}}, "JudgeUnavailable"),
    (
        200,
        {
            "choices": [],
            "prompt_filter_results": [
                {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}
            ],
        },
        "JudgeUnavailable",
    ),
    (
        200,
        {
            "choices": [],
            "prompt_filter_results": [
                {"prompt_index": 0, "content_filter_results": {"hate": {"filtered": True, "severity": "high"}}}
            ],
        },
        "JudgeRefused",
    ),
    (200, {"id": "x", "object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 429}}, "JudgeUnavailable"),
    (200, {"id": "429", "choices": None, "created": 500}, "JudgeUnavailable"),
    (
        200,
        {"type": "message", "content": [{"type": "text", "text": "sensitive"}], "stop_reason": "end_turn"},
        "JudgeUnavailable",
    ),
]
"""(status, body, error) of endpoints and gateways in the wild; a request that is too long is refused here, and `Judge`
works out whose length it is."""


@pytest.mark.parametrize(("status", "body", "error"), REPORTS)
def test_reports_of_endpoints_and_gateways(status, body, error):
    inner = body.get("error", body) if isinstance(body, dict) and status != 200 else body
    assert type(of_judge(by_report(status, body, "key").error)).__name__ == error
    assert type(of_judge(by_report(status, inner, "key").error)).__name__ == error


# --- anything at all -------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers(-5, 2000) | st.text(max_size=12) | st.floats(allow_nan=False)
WORDS = st.sampled_from(
    ["error", "code", "message", "choices", "content", "finish_reason", "tool_calls", "function", "arguments", "type"]
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)


@given(ANYTHING)
@settings(max_examples=400, deadline=None)
def test_no_reply_is_too_odd_to_be_a_text_or_a_typed_failure(completion):
    try:
        found = _content(completion, "key", ())
    except CallError:
        return
    assert isinstance(found, str | Failure)


@given(ANYTHING, ANYTHING, st.sampled_from(["stop", "length", "error", None, "x"]))
@settings(max_examples=400, deadline=None)
def test_no_message_is_too_odd(content, calls, reason):
    message = {"content": content, "tool_calls": calls, "function_call": calls}
    try:
        found = _content({"choices": [{"message": message, "finish_reason": reason}]}, "key", ())
    except CallError:
        return
    assert isinstance(found, str | Failure)


@given(st.sampled_from([200, 400, 403, 404, 418, 422, 429, 500]), ANYTHING)
@settings(max_examples=400, deadline=None)
def test_every_report_is_a_typed_failure_without_the_key(status, body):
    failure = by_report(status, body, "key")
    assert isinstance(failure.error, CallError)
    assert "key" not in str(failure.error).replace("rejects the key", "")
