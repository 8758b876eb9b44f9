//! Reads the names in PromQL: metrics, the labels they are selected by, the labels they are grouped by. It does not
//! check types, precedence or correctness.

/// These are followed by a list of labels.
const GROUPING: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// Other names that are not metrics.
const OPERATORS: [&str; 6] = ["and", "or", "unless", "atan2", "offset", "bool"];

/// The names in a PromQL expression.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) selectors: Vec<Selector>,
    /// Labels that samples are grouped or matched by.
    pub(super) grouping: Vec<String>,
}

/// A metric, with the labels that select its samples.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) metric: String,
    pub(super) labels: Vec<(String, String)>,
}

impl Query {
    pub(super) fn read(promql: &str) -> Self {
        let tokens = tokens(promql);
        let mut rest = tokens.iter().peekable();
        let mut query = Self::default();
        while let Some(token) = rest.next() {
            let Token::Name(name) = token else { continue };
            if GROUPING.contains(&name.as_str()) {
                let list = rest.by_ref().take_while(|token| !token.is(')'));
                query.grouping.extend(list.filter_map(Token::name));
            } else if !OPERATORS.contains(&name.as_str()) {
                let is_metric = match rest.peek() {
                    Some(Token::Mark('(')) => false,
                    Some(Token::Name(next)) => !["by", "without"].contains(&next.as_str()),
                    _ => true,
                };
                if is_metric {
                    let mut labels = Vec::new();
                    if rest.next_if(|token| token.is('{')).is_some() {
                        let inside = rest.by_ref().take_while(|token| !token.is('}'));
                        labels = pairs(inside);
                    }
                    query.selectors.push(Selector {
                        metric: name.clone(),
                        labels,
                    });
                }
            }
        }
        query
    }
}

/// Names, each with the text that follows it.
fn pairs<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut label = None;
    for token in tokens {
        match token {
            Token::Name(name) => label = Some(name.clone()),
            Token::Text(text) => pairs.extend(label.take().map(|label| (label, text.clone()))),
            Token::Mark(_) => {}
        }
    }
    pairs
}

#[derive(Debug)]
enum Token {
    Name(String),
    Text(String),
    Mark(char),
}

impl Token {
    fn is(&self, mark: char) -> bool {
        matches!(self, Self::Mark(it) if *it == mark)
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Name(name) => Some(name.clone()),
            Self::Text(_) | Self::Mark(_) => None,
        }
    }
}

/// Skips numbers, and durations in brackets.
fn tokens(promql: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = promql.chars().peekable();
    while let Some(first) = rest.next() {
        match first {
            '"' | '\'' => {
                let mut text = String::new();
                while let Some(next) = rest.next().filter(|next| *next != first) {
                    let escaped = (next == '\\').then(|| rest.next()).flatten();
                    text.push(escaped.unwrap_or(next));
                }
                tokens.push(Token::Text(text));
            }
            '[' => while rest.next().is_some_and(|next| next != ']') {},
            _ if first.is_alphanumeric() || first == '_' => {
                let mut word = first.to_string();
                let is_more = |next: &char| next.is_alphanumeric() || "_:.".contains(*next);
                while let Some(next) = rest.next_if(is_more) {
                    word.push(next);
                }
                if !first.is_numeric() {
                    tokens.push(Token::Name(word));
                }
            }
            _ if first.is_whitespace() => {}
            _ => tokens.push(Token::Mark(first)),
        }
    }
    tokens
}

#[test]
fn names_in_promql_are_read() {
    let query = Query::read(
        r#"(time() - a:b{x="{y}\"", z!~"1|2"} offset 5m) * on (i, j) group_left (v) c
           + histogram_quantile(0.99, sum by (le) (rate(d_bucket{w=~"$w"}[$__rate_interval]))) or vector(1e3)
           and topk by (k) (3, e) unless sum(f) without (g)"#,
    );
    let metrics: Vec<&str> = query.selectors.iter().map(|it| &*it.metric).collect();
    assert_eq!(metrics, ["a:b", "c", "d_bucket", "e", "f"]);
    let labels = |index: usize| query.selectors[index].labels.clone();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(labels(0), [pair("x", "{y}\""), pair("z", "1|2")]);
    assert_eq!(labels(2), [pair("w", "$w")]);
    assert_eq!(query.grouping, ["i", "j", "v", "le", "k", "g"]);
}
