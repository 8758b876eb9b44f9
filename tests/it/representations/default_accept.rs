//! `Accept` as programs send it by default.

/// The field, and the format that it gets.
pub(super) const SENT_BY_DEFAULT: [(&str, &str); 36] = [
    // curl, wget, requests, aiohttp, httpx, fetch, Ruby, NSURLSession, XMLHttpRequest, Excel
    ("*/*", "json"),
    // HttpURLConnection up to Java 18, Jersey
    (
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "json",
    ),
    // HttpURLConnection since
    ("text/html, image/gif, image/jpeg, */*; q=0.2", "json"),
    ("*", "json"),
    // Spring's RestTemplate for an object, for text, for bytes
    ("application/json, application/*+json", "json"),
    (
        "text/plain, application/json, application/*+json, */*",
        "json",
    ),
    ("application/octet-stream, */*", "json"),
    // Chrome, Firefox of several ages, Safari
    (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
         application/signed-exchange;v=b3;q=0.7",
        "json",
    ),
    (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,\
         image/svg+xml,*/*;q=0.8",
        "json",
    ),
    (
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "json",
    ),
    // their images, styles and scripts
    (
        "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
        "json",
    ),
    (
        "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5",
        "json",
    ),
    ("text/css,*/*;q=0.1", "json"),
    // Internet Explorer, the same with Office installed, Edge Legacy
    ("text/html, application/xhtml+xml, */*", "json"),
    (
        "image/gif, image/jpeg, image/pjpeg, application/x-ms-application, application/xaml+xml, \
         application/x-ms-xbap, application/vnd.ms-excel, application/msword, */*",
        "json",
    ),
    ("text/html, application/xhtml+xml, image/jxr, */*", "json"),
    // axios, Angular, Grafana's front end
    ("application/json, text/plain, */*", "json"),
    // jQuery: JSON, any, text
    ("application/json, text/javascript, */*; q=0.01", "json"),
    ("text/plain, */*; q=0.01", "json"),
    // Grafana's Infinity: JSON, CSV
    ("application/json;q=0.9,text/plain", "json"),
    ("text/csv", "csv"),
    ("text/csv; charset=utf-8", "csv"),
    // Prometheus, older and newer
    (
        "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "json",
    ),
    (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        "json",
    ),
    // httr of R, RestSharp, HTTPie, n8n, clients made by openapi-generator
    ("application/json, text/xml, application/xml, */*", "json"),
    (
        "application/json, text/json, text/x-json, text/javascript, *+json, application/xml, text/xml, \
         *+xml, *",
        "json",
    ),
    ("application/json, */*;q=0.5", "json"),
    (
        "application/json,text/html,application/xhtml+xml,application/xml,text/*;q=0.9, */*;q=0.1",
        "json",
    ),
    (
        "application/json, application/x-ndjson, text/csv, application/problem+json",
        "json",
    ),
    ("application/json; charset=utf-8", "json"),
    (
        "application/json;odata.metadata=minimal;q=1.0,application/json;q=.9",
        "json",
    ),
    // Lynx
    (
        "text/html, text/plain, text/sgml, text/css, application/xhtml+xml, */*;q=0.01",
        "json",
    ),
    // written by hand
    ("json", "json"),
    (",, */* ,", "json"),
    (
        "text/csv ; Q = .9, application/json ;q= 0.10000000149011612",
        "csv",
    ),
    (r#"application/x-ndjson;title="a, b;q=0""#, "ndjson"),
];
