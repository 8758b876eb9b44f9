//! `larder key`: keys that work, and what a credential may do.

use super::*;

const ENDPOINTS: &str = r#"
    [[endpoint]]
    path = "/public"
    sql = "SELECT 1"
    access = "public"
    [[endpoint]]
    path = "/closed"
    sql = "SELECT 1"
    [[endpoint]]
    path = "/scoped"
    sql = "SELECT 1"
    access = { scopes = ["sales", "read"] }
    [[endpoint]]
    path = "/from"
    sql = "SELECT 1"
    access = { allow_from = ["192.0.2.0/24"] }
    [[endpoint]]
    path = "/mine"
    sql = "SELECT :tenant"
    params.tenant = { claim = "tenant" }
    [[endpoint]]
    path = "/role"
    sql = "SELECT 1"
    run_as = { roles = ["reader", "editor"], role_claim = "role" }
    [[endpoint]]
    path = "/claims"
    sql = "SELECT 1"
    run_as = { roles = ["reader"], settings = { "app.claims" = ["sub"] } }
"#;

#[tokio::test]
async fn a_new_key_works_and_what_it_may_do_is_explained() {
    let made = Program::larder(&["key", "new", "acme"]).run().await;
    made.assert_code(0);
    let key = made.stdout.lines().find(|line| line.starts_with("    "));
    let (_, declaration) = made.stdout.split_once("    [[access.key]]").unwrap();
    for (claims, verdicts) in [
        (
            "{}",
            [
                "/mine: no: 403, the claims tenant are missing",
                "/role: no: 403, the claims role are missing",
                "/claims: no: 403, the claims sub are missing",
            ],
        ),
        (
            "{ tenant = \"acme\", role = \"owner\", sub = \"a\" }",
            [
                "/mine: yes",
                "/role: no: 403, the claim role is none of the roles reader, editor",
                "/claims: yes",
            ],
        ),
        (
            "{ tenant = \"acme\", role = \"editor\", sub = \"a\" }",
            ["/mine: yes", "/role: yes", "/claims: yes"],
        ),
    ] {
        let access = format!(
            "[access]\ndefault = \"deny\"\n[[access.key]]{declaration}claims = {claims}\n{ENDPOINTS}"
        );
        let files = [
            ("config.toml", &*config(&access)),
            ("key", key.unwrap().trim()),
            ("other", "another-key"),
        ];
        let folder = folder(&files);
        let check = async |file: &str| {
            let program = Program::larder(&["key", "check"]).within(folder.path());
            let program = program.on("postgres://nobody:hunter2@127.0.0.1:1/none");
            program.reading(&folder.path().join(file)).run().await
        };
        let expected = format!(
            "This is `acme`.\n\n/public: yes: it is public\n/closed: yes\n\
             /scoped: no: 403, it needs the scopes sales, read\n/from: yes, from 192.0.2.0/24\n{}\n",
            verdicts.join("\n")
        );
        let known = check("key").await;
        known.assert_stdout(&expected);
        assert!(!known.stdout.contains(key.unwrap().trim()));
        let unknown = check("other").await;
        unknown.assert_code(1);
        unknown.assert_stderr_has("the key is unknown");
        assert!(!unknown.stderr.contains("another-key"));
    }
}
