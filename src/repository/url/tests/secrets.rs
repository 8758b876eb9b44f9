//! No error and no output repeats a part of a password, however it is written.

use proptest::prelude::*;

use super::*;

/// Everything that may be printed of a text: an error, the names of the servers, and what Postgres repeats in
/// its errors.
fn shown(text: &str) -> Vec<String> {
    let target = match Target::parse("url", text) {
        Ok(target) => target,
        Err(error) => return vec![error.to_string(), format!("{error:?}")],
    };
    let config = &target.config;
    let mut shown: Vec<String> = target.places.iter().map(Place::to_string).collect();
    shown.push(format!("{target:?}"));
    shown.extend(
        [config.get_user(), config.get_dbname(), config.get_options()]
            .into_iter()
            .flatten()
            .map(str::to_owned),
    );
    shown
}

/// Spellings of URLs; `{}` is the password.
const SPELLINGS: [&str; 16] = [
    "postgres://somebody:{}@db.example/shop",
    "postgresql://somebody:{}@db.example:5433/shop?sslmode=require&connect_timeout=5",
    "postgres://somebody:{}@[::1]:5433/shop",
    "postgres://somebody:{}@db.example,other.example/shop?target_session_attrs=read-write",
    "postgres://somebody:{}@/shop?host=/run/postgresql",
    "postgres://db.example:5432/shop?user=somebody&password={}&sslmode=require",
    "postgres:///shop?host=db.example&user=somebody&password={}",
    "postgres://db.example:5432?user=somebody&password={}",
    "\"postgres://somebody:{}@db.example/shop\"",
    "jdbc:postgresql://somebody:{}@db.example/shop",
    "postgres:/somebody:{}@db.example/shop?connect_timeout=1",
    "somebody:{}@db.example/shop",
    "host=db.example user=somebody password={} dbname=shop",
    "host=db.example user=somebody password='{}' dbname=shop",
    "password = {}",
    "db.example:5432:shop:somebody:{}",
];

#[test]
fn a_password_with_the_delimiters_of_urls_is_not_shown() {
    for password in [
        "hunter2",
        "hun@ter2",
        "hun/ter2",
        "hun#ter2",
        "hun?ter2",
        "hun%ter2",
        "hun%zzter2",
        "hun:ter2",
        "hun&ter2",
        "hun=ter2",
        "hun ter2",
        "hun'ter2",
        "'hun'ter2",
        "hun\"ter2",
        "hun\\ter2",
        "hun,ter2",
        "5432/hunter2",
        "5432/hun@ter2",
        "hun@ter2/hunter2",
        "hun@hunter2:5433",
        "hun@ter2?host=hunter2",
        "hun?user=hunter2",
        "hun?hunter2=1",
        "hun@[::1]:hunter2",
        "hun?sslmode=hunter2",
        "hun?port=hunter2",
        "hun[ter2",
        "hun]ter2",
        "@hunter2",
        "/hunter2",
        "?hunter2",
        "hunter2@",
        "hunter2/",
        "hun@@ter2",
    ] {
        for spelling in SPELLINGS {
            let text = spelling.replace("{}", password);
            for shown in shown(&text) {
                assert!(!shown.contains("ter2"), "{text}: {shown}");
            }
        }
    }
    let reason = refused("postgres://somebody:p@ss@db.example/shop");
    assert!(reason.contains("write %40 for @"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn no_part_of_any_password_is_shown(
        password in r#"[A-Z0-9@/?#%&=:'"\\ ,;\[\]<>$.-]{4,20}"#,
        spelling in proptest::sample::select(SPELLINGS.to_vec()),
    ) {
        let text = spelling.replace("{}", &password);
        let characters: Vec<char> = password.chars().collect();
        let shown = shown(&text);
        for piece in characters.windows(4).map(|four| four.iter().collect::<String>()) {
            // Some pieces also occur elsewhere in the text.
            if spelling.contains(&piece) || !piece.contains(|c: char| c.is_ascii_uppercase()) {
                continue;
            }
            for shown in &shown {
                prop_assert!(!shown.contains(&piece), "{} shows {} of {}", shown, piece, text);
            }
        }
    }

    #[test]
    fn no_text_panics(text in r"(postgres://|host=|port=|[a-z@/?#%&=:'\\ ,\[\]]){0,12}") {
        let _ = Target::parse("url", &text);
    }
}

#[test]
fn a_wrong_url_is_explained_without_its_password() {
    for text in [
        "postgres://u:hunter2@h/d?sslmode=sometimes",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?nonsense=1",
        "postgres://u:hunter2@a,b,c/d?hostaddr=::1",
        "host=a,b,c port=1,2 password=hunter2",
        "mysql://u:hunter2@h/d",
        "postgres:/u:hunter2@h/d?connect_timeout=1",
        "password=hunter2 host",
        "password='hunter2",
        "",
    ] {
        let text = refused(text);
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(refused("postgres://h/d?sslmode=sometimes").contains("verify-full"));
}
