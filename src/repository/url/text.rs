//! Splits libpq's two spellings, a URI and `key=value` words, into options, as libpq's
//! `conninfo_uri_parse_options` and `conninfo_parse` do.
//!
//! An unencoded password shifts the borders of everything around it. So all errors are constants, none of
//! which can repeat a part of the text. And what libpq would take for a host or a database is rejected if an
//! `@` in it suggests otherwise.

use percent_encoding::percent_decode_str;

/// Options in the order in which they apply, with their names as written.
pub(super) type Pairs = Vec<(String, Vec<u8>)>;

/// Why the text cannot be split.
pub(super) type Reason = &'static str;

/// For an `@` after the one that ends the user and the password.
const STRAY_AT: Reason = "there is an @ where a host, a port, a database or an option should be: in \
     user names, passwords and values, write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and \
     %25 for %";

const BAD_PERCENT: Reason =
    "a % is not followed by two hexadecimal digits: write %25 for a literal %";

const NEITHER: Reason = "it is neither a postgres:// URL nor key=value words; a value with spaces \
     needs single quotes, and \\' and \\\\ inside them";

pub(super) fn pairs(text: &str) -> Result<Pairs, Reason> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.starts_with(['"', '\'', '`', '<']) {
        return Err("it begins with a quote, which is not part of a URL");
    }
    let schemes = ["postgres://", "postgresql://"];
    if let Some(uri) = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return of_uri(uri);
    }
    // Words have a `=` before any value, so a scheme before the first `=` is a URL's.
    let first = text.split('=').next().unwrap_or_default();
    if first.contains(":/") {
        return Err("its scheme is not postgres:// or postgresql://");
    }
    of_words(text)
}

/// `user:password@host:port,host:port/database?option=value&option=value`.
fn of_uri(uri: &str) -> Result<Pairs, Reason> {
    let mut pairs = Pairs::new();
    // Like libpq, look for the first `@` before the first slash.
    let user_info = uri
        .find(['@', '/'])
        .filter(|end| uri[*end..].starts_with('@'))
        .map(|end| (&uri[..end], &uri[end + 1..]));
    let (user_info, rest) = user_info.unwrap_or(("", uri));
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // After a host without a colon, a value such as `user=me@realm` cannot be the end of a password.
    let may_be_password = query.contains('@') && uri[..uri.len() - query.len()].contains(':');
    // Could also be `host:port?password=one`, with the rest of that password taken for a host.
    let may_be_options = user_info
        .split_once('?')
        .is_some_and(|(_, query)| query.contains('='));
    if place.contains('@') || may_be_password || may_be_options {
        return Err(STRAY_AT);
    }
    let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let (hosts, ports) = hosts_and_ports(hosts)?;
    for (name, value) in [
        ("user", user),
        ("password", password),
        ("host", &hosts),
        ("port", &ports),
        ("dbname", database),
    ] {
        if !value.is_empty() {
            pairs.push((name.to_owned(), decoded(value)?));
        }
    }
    let options = of_query(query)?;
    // As everywhere, the last one applies; but several hosts may be given one by one.
    pairs.retain(|(name, _)| !options.iter().any(|(other, _)| other == name));
    pairs.extend(options);
    Ok(pairs)
}

fn of_query(query: &str) -> Result<Pairs, Reason> {
    let options = query.split('&').filter(|option| !option.is_empty());
    options
        .map(|option| {
            let (name, value) = option
                .split_once('=')
                .ok_or("an option after the ? has no value")?;
            let name = String::from_utf8(decoded(name)?);
            let name = name.map_err(|_| "an option after the ? is not UTF-8")?;
            let value = decoded(value)?;
            // JDBC's spelling; libpq accepts it with this value only.
            if name == "ssl" && value == b"true" {
                return Ok(("sslmode".to_owned(), b"require".to_vec()));
            }
            Ok((name, value))
        })
        .collect()
}

/// `a:1,[::1],c` as `a,::1,c` and `1,,`; no ports if none is given.
fn hosts_and_ports(text: &str) -> Result<(String, String), Reason> {
    let mut all: (Vec<&str>, Vec<&str>) = Default::default();
    for one in text.split(',') {
        let (host, port) = if let Some(inside) = one.strip_prefix('[') {
            let (host, behind) = inside
                .split_once(']')
                .ok_or("an address in brackets has no closing bracket")?;
            match behind.strip_prefix(':') {
                Some(port) => (host, port),
                None if behind.is_empty() => (host, ""),
                None => {
                    return Err(
                        "an address in brackets is followed by something other than a port",
                    );
                }
            }
        } else {
            one.split_once(':').unwrap_or((one, ""))
        };
        all.0.push(host);
        all.1.push(port);
    }
    let has_ports = all.1.iter().any(|port| !port.is_empty());
    let ports = if has_ports {
        all.1.join(",")
    } else {
        String::new()
    };
    Ok((all.0.join(","), ports))
}

fn decoded(text: &str) -> Result<Vec<u8>, Reason> {
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('%') {
        let digits = behind.as_bytes().get(..2);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(BAD_PERCENT);
        }
        rest = behind;
    }
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    without_zeros(&bytes)?;
    Ok(bytes)
}

/// A zero byte ends a value on the wire, and the rest would be taken for another value.
fn without_zeros(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.contains(&0) {
        return Err("it contains a zero byte");
    }
    Ok(())
}

/// `key = value` words, with values optionally in single quotes that may contain `\'` and `\\`.
fn of_words(text: &str) -> Result<Pairs, Reason> {
    without_zeros(text.as_bytes())?;
    let mut pairs = Pairs::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(NEITHER)?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(NEITHER);
        }
        let (value, after) = word(after.trim_start())?;
        pairs.push((name.to_owned(), value.into_bytes()));
        rest = after.trim_start();
    }
    Ok(pairs)
}

fn word(text: &str) -> Result<(String, &str), Reason> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, escaped)) => value.push(escaped),
                None => return Err("it ends with a single backslash"),
            },
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted {
        Err("a quoted value has no closing quote")
    } else {
        Ok((value, ""))
    }
}
