//! Arguments to compare a failing request with.

use super::*;

#[test]
fn alternatives_are_declared_or_ordinary_values_that_differ() {
    let plan = plan(
        &[("n", ""), ("known", "values = ['7', '9']"), ("x", "")],
        "unknown_params = 'ignore'",
    );
    let kinds = [
        ParameterType::Int4,
        ParameterType::Int4,
        ParameterType::Other("inet".to_owned()),
    ];
    let signature = signature(&plan, &kinds).expect("a signature");
    let others = |texts: [&str; 4]| {
        let these = texts.map(|text| Some(text.into())).to_vec();
        let others = signature.alternatives(&plan.endpoints()[0], &Arguments::new(these));
        let texts = |it: &Arguments| it.iter().map(|a| a.map(str::to_owned)).collect::<Vec<_>>();
        others.iter().map(texts).collect::<Vec<_>>()
    };
    let some = |texts: &[&str]| {
        texts
            .iter()
            .map(|t| Some((*t).to_owned()))
            .collect::<Vec<_>>()
    };
    let expected = |texts: &[&str]| {
        let plain = [some(texts), vec![None]].concat();
        let mut bare = plain.clone();
        bare[0] = None;
        [plain, bare]
    };
    assert_eq!(others(["v", "0", "7", "::1"]), expected(&["1", "2", "9"]));
    assert_eq!(others(["1", "2", "9", "::1"]), expected(&["11", "12", "7"]));
}

#[test]
fn a_request_without_arguments_has_no_alternatives() {
    let text = "repository.url = 'x'\n[[endpoint]]\npath = '/a'\nsql = 'select :n + :m'\n\
                params.n = { default = 0 }\nparams.m = { optional = true }";
    let config = Config::parse("config.toml", text.to_owned(), Path::new(""), &|_| None);
    let plan = Plan::compile(config.expect("readable")).expect("sound");
    let endpoint = &plan.endpoints()[0];
    let signature = Signature::new(endpoint, vec![ParameterType::Int4; 2]).expect("a signature");
    let none = Arguments::new(vec![Some("0".into()), None]);
    assert!(signature.alternatives(endpoint, &none).is_empty());
    let some = Arguments::new(vec![Some("0".into()), Some("5".into())]);
    assert!(!signature.alternatives(endpoint, &some).is_empty());
}
