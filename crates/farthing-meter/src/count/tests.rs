use serde_json::json;

use super::*;

fn number(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

fn tokens(terms: Tokens) -> Count {
    Count::new(&Measure::Tokens(terms), NonZeroU64::MIN, 0)
}

/// The count after each event with this data.
fn after(count: &mut Count, data: &[Value]) -> Vec<u64> {
    let events = data.iter().map(|data| format!("data: {data}\n\n"));
    let quantities = events.map(|event| {
        count.event(event.as_bytes());
        count.quantity()
    });
    quantities.collect()
}

fn chat(text: &str) -> Value {
    json!({"choices": [{"delta": {"content": text}}], "usage": null})
}

fn anthropic(text: &str) -> Value {
    json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}})
}

/// SES.S14: an estimate until the upstream reports, and the report from then on.
#[test]
fn a_chat_is_estimated_and_then_reported() {
    let mut count = tokens(Tokens { input_estimate: 10, ..Tokens::default() });
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}});
    let stream = [chat(""), chat("Hello"), chat(", world, "), chat("x"), usage];
    // 5 bytes are 2 tokens; 14 bytes are 4, and 15 are no more; then 7 + 5 are reported.
    assert_eq!(after(&mut count, &stream), [10, 12, 14, 14, 12]);
    count.event(b"data: [DONE]\n\n");
    assert_eq!(count.quantity(), 12);
}

/// SES.S14: a report may be higher than any estimate, as that of thoughts that are not shown is.
#[test]
fn a_report_above_the_estimate_counts() {
    let mut count = tokens(Tokens { input: 0, ..Tokens::default() });
    let done = json!({"type": "response.completed", "response": {
        "output": [{"content": [{"text": "Hi"}]}],
        "usage": {"input_tokens": 3, "output_tokens": 900},
    }});
    let stream = [json!({"type": "response.output_text.delta", "delta": "Hi"}), done];
    assert_eq!(after(&mut count, &stream), [1, 900]);
}

/// SES.S14: reports of a stream are cumulative, and what comes after one is estimated again.
#[test]
fn an_anthropic_stream_reports_twice() {
    let mut count = tokens(Tokens { input: 1, output: 10, ..Tokens::default() });
    let start = json!({"type": "message_start", "message": {"usage": {
        "input_tokens": 25, "output_tokens": 1}}});
    let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 3}});
    let stream = [start, json!({"type": "ping"}), anthropic("Hello"), delta];
    assert_eq!(after(&mut count, &stream), [35, 35, 55, 55]);
}

/// SES.S14: no report is below what was delivered.
#[test]
fn a_report_of_nothing_is_not_believed() {
    let mut count = tokens(Tokens::default());
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}});
    assert_eq!(after(&mut count, &[chat(&"x".repeat(160)), usage]), [40, 10]);
}

#[test]
fn what_nobody_can_read_counts_as_text() {
    let mut count = tokens(Tokens::default());
    count.event(b"data: sixteen bytes, \n\n");
    assert_eq!(count.quantity(), 4);
    count.event(b": sixteen bytes, \n\n");
    assert_eq!(count.quantity(), 4, "a comment is nobody's text");
}

/// SES.S14: a whole answer costs what it reports, or what it looks like if it does not.
#[test]
fn whole_answers_are_counted_too() {
    let count = |answer: Value| {
        let mut count = tokens(Tokens::default());
        count.answer(answer.to_string().as_bytes());
        count.quantity()
    };
    let said = json!([{"message": {"role": "assistant", "content": "sixteen bytes :)"}}]);
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 5});
    assert_eq!(count(json!({"choices": said, "usage": usage})), 8);
    assert_eq!(count(json!({"choices": said})), 4);
    let content = json!([{"type": "text", "text": "sixteen bytes :)"}]);
    let usage = json!({"input_tokens": 3, "output_tokens": 0});
    assert_eq!(count(json!({"type": "message", "content": content, "usage": usage})), 4);
    assert_eq!(count(json!("forty bytes of JSON that nobody knows …")), 11);
}

/// SES.S14: an upstream's own figures, cumulative or one by one, over an estimate until they come.
#[test]
fn reported_figures_replace_the_estimate() {
    let report = |cumulative| {
        Measure::Report(Report {
            event: "usage".to_owned(),
            pointer: "/units".to_owned(),
            cumulative,
            estimate: 2,
        })
    };
    let stream = [
        "data: a\n\n",
        "data: b\n\n",
        "event: usage\ndata: {\"units\":3}\n\n",
        ": nothing\n\n",
        "data: {\"units\":100}\n\n",
        "event: usage\ndata: {\"units\":5}\n\n",
        "event: usage\ndata: {\"units\":-5}\n\n",
    ];
    for (cumulative, expected) in [(true, [2, 4, 3, 3, 5, 5, 7]), (false, [2, 4, 3, 3, 5, 8, 10])] {
        let mut count = Count::new(&report(cumulative), NonZeroU64::MIN, 0);
        let quantities = stream.map(|event| {
            count.event(event.as_bytes());
            count.quantity()
        });
        assert_eq!(quantities, expected, "cumulative: {cumulative}");
    }
}

#[test]
fn events_with_data_count_and_the_end_mark_does_not() {
    let mut count = Count::new(&Measure::Events, NonZeroU64::MIN, 0);
    for event in ["data\n\n", "event: x\n\n", ": hi\n\n", "data: [DONE]\n\n", "data:a\ndata:b\n\n"]
    {
        count.event(event.as_bytes());
    }
    assert_eq!(count.quantity(), 2);
    let mut count = Count::new(&Measure::Lines, NonZeroU64::MIN, 0);
    count.event(b"data: a\ndatabase: b\r\ndata\rid: 1\n\n");
    assert_eq!(count.quantity(), 2);
}

#[test]
fn a_unit_is_due_with_its_first_part() {
    let count = Count::new(&Measure::Bytes, number(10), 0);
    let units = [0, 1, 10, 11, 20, 21].map(|bytes| count.units(bytes));
    assert_eq!(units, [0, 1, 1, 2, 2, 3]);
}

#[test]
fn figures_beyond_reason_do_not_wrap() {
    let mut count = tokens(Tokens { input: u64::MAX, ..Tokens::default() });
    let usage = json!({"usage": {"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX}});
    assert_eq!(after(&mut count, &[chat("x"), usage, chat("y")])[1..], [u64::MAX, u64::MAX]);
}
