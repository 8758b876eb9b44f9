//! Mistakes that Postgres reports, at the place that causes them.

use super::*;

#[test]
fn a_position_in_sql_is_shown_where_it_is_written() {
    let plan = compile(
        "repository.url = 'x'\n[[endpoint]]\npath = '/a'\nsql = \"\"\"\nselect :x, \\\n   'ä\\t' || \\\"colum\\\"\nfrom t\"\"\"\nparams.x = {}\n",
    );
    let endpoint = &plan.endpoints()[0];
    let text = endpoint.statement.text();
    let shown = |needle: &str| {
        let offset = text.find(needle).expect("in the text");
        let position = u32::try_from(text[..offset].chars().count() + 1).expect("short");
        let report = plan.mistake(
            Subject::Statement(endpoint.id),
            &Finding {
                position: Some(position),
                ..Finding::new("no")
            },
        );
        let span = report.mistakes()[0].span().expect("a place").clone();
        (span.line(), span.text().to_owned())
    };
    assert_eq!(shown("$1"), (5, ":x".to_owned()));
    assert_eq!(shown("colum"), (6, "colum".to_owned()));
    assert_eq!(shown("from"), (7, "from".to_owned()));
    assert_eq!(shown("'ä"), (6, "'".to_owned()));

    let report = plan.mistake(
        Subject::Statement(endpoint.id),
        &Finding {
            detail: Some("because".to_owned()),
            ..Finding::new("no")
        },
    );
    assert_eq!(report.mistakes()[0].span().map(Span::line), Some(4));
    assert!(report.to_string().contains("note: because"), "{report}");
}

#[test]
fn parameters_in_messages_have_their_names() {
    let plan = compile(
        "repository.url = 'x'\n[[endpoint]]\npath = '/a/{x}'\nsql = \"\"\"\nselect :x,\n :year\"\"\"\nparams.year = {}\n",
    );
    let id = plan.endpoints()[0].id;
    let shown = |report: &Report| {
        let mistake = &report.mistakes()[0];
        let span = mistake.span().expect("a place");
        let advice = mistake.advice().unwrap_or_default().to_owned();
        (
            mistake.message().to_owned(),
            span.line(),
            span.text().to_owned(),
            advice,
        )
    };
    let finding = Finding::new("could not determine data type of parameter $2");
    let report = plan.mistake(Subject::ParameterTypes(id), &finding);
    let (message, line, text, advice) = shown(&report);
    assert_eq!(message, "could not determine data type of parameter :year");
    assert_eq!((line, text.as_str()), (6, ":year"));
    assert!(
        advice.contains("`params.year = { type = \"integer\" }`"),
        "{advice}"
    );
    assert!(advice.contains("`:year::integer`"), "{advice}");

    // What is not a parameter of the statement is left alone.
    let report = plan.mistake(
        Subject::Statement(id),
        &Finding {
            detail: Some("$1".to_owned()),
            ..Finding::new("$1 and $2, not $3, $0 or $x")
        },
    );
    assert_eq!(shown(&report).0, ":x and :year, not $3, $0 or $x");
    assert!(report.to_string().contains("note: :x"), "{report}");

    let parameters = &plan.endpoints()[0].parameters;
    let of_parameter = |name: &str| {
        let index = parameters.iter().position(|it| it.name == name);
        let index = index.expect("a parameter");
        plan.mistake(Subject::Parameter(id, index), &Finding::new("no"))
    };
    let (_, line, text, _) = shown(&of_parameter("year"));
    assert_eq!((line, text.as_str()), (7, "year"));
    let (_, line, _, _) = shown(&of_parameter("x"));
    assert_eq!(line, 4);
}
