use serde_json::json;

use super::*;

#[expect(clippy::unnecessary_wraps, reason = "what it is compared with may be nothing")]
fn used(input: Option<u64>, output: Option<u64>) -> Option<Usage> {
    Some(Usage { input, output })
}

#[test]
fn each_family_reports_in_its_own_members() {
    let chat = json!({"object": "chat.completion.chunk", "choices": [], "usage": {
        "prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21,
        "prompt_tokens_details": {"cached_tokens": 4},
    }});
    assert_eq!(Usage::read(&chat), used(Some(9), Some(12)));
    let response = json!({"type": "response.completed", "response": {"usage": {
        "input_tokens": 37, "output_tokens": 11, "output_tokens_details": {"reasoning_tokens": 3},
    }}});
    assert_eq!(Usage::read(&response), used(Some(37), Some(11)));
    let start = json!({"type": "message_start", "message": {"usage": {
        "input_tokens": 25, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 7,
        "output_tokens": 1,
    }}});
    assert_eq!(Usage::read(&start), used(Some(132), Some(1)));
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 15}});
    assert_eq!(Usage::read(&delta), used(None, Some(15)));
}

#[test]
fn what_is_no_number_of_tokens_is_no_report() {
    for usage in [
        json!(null),
        json!({}),
        json!(3),
        json!({"completion_tokens": -1}),
        json!({"completion_tokens": 1.5}),
    ] {
        assert_eq!(Usage::read(&json!({ "usage": usage })), None, "{usage}");
    }
    assert_eq!(Usage::read(&json!([1])), None);
}

#[test]
fn reports_are_cumulative_and_none_lowers_another() {
    let mut usage = Usage { input: Some(25), output: Some(1) };
    usage.merge(Usage { input: None, output: Some(15) });
    usage.merge(Usage { input: Some(3), output: Some(2) });
    assert_eq!(usage, Usage { input: Some(25), output: Some(15) });
}

#[test]
fn what_a_model_wrote_is_told_from_what_names_it() {
    let bytes = |event: Value| written_bytes(&event);
    let choice = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
    assert_eq!(bytes(choice(json!({"role": "assistant", "content": ""}))), Some(0));
    assert_eq!(bytes(choice(json!({"content": "héllo"}))), Some(6));
    let call = json!({"tool_calls": [{"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"in\":1}"}}]});
    assert_eq!(bytes(choice(call)), Some(8));
    assert_eq!(bytes(json!({"choices": [{"text": "hey"}]})), Some(3));
    assert_eq!(bytes(json!({"type": "response.output_text.delta", "delta": "Hi"})), Some(2));
    assert_eq!(bytes(json!({"type": "response.output_text.done", "text": "Hi there"})), Some(0));
    let thought = json!({"type": "thinking_delta", "thinking": "hm"});
    assert_eq!(bytes(json!({"type": "content_block_delta", "delta": thought})), Some(2));
    let stop = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}});
    assert_eq!(bytes(stop), Some(0));
    assert_eq!(bytes(json!({"error": {"message": "overloaded"}})), Some(0));
    // Nobody knows what these say.
    assert_eq!(bytes(json!({"type": "chunk", "text": "Hi"})), None);
    assert_eq!(bytes(json!("Hi")), None);
}

#[test]
fn a_chat_completion_is_asked_to_report() {
    let mut request = json!({"stream": true, "messages": []});
    assert_eq!(ask_for_usage(&mut request), Asked::Now);
    assert_eq!(request["stream_options"], json!({"include_usage": true}));
    assert_eq!(ask_for_usage(&mut request), Asked::Already);
    let mut request = json!({"stream": true, "stream_options": {"include_usage": false, "x": 1}});
    assert_eq!(ask_for_usage(&mut request), Asked::Now);
    assert_eq!(request["stream_options"], json!({"include_usage": true, "x": 1}));
    for mut request in [json!({"stream": false}), json!({}), json!([]), json!("x")] {
        let before = request.clone();
        assert_eq!(ask_for_usage(&mut request), Asked::Already);
        assert_eq!(request, before);
    }
}
