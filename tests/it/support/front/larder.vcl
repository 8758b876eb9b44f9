sub vcl_backend_response {
    # What Larder allows while it fails, counted as Varnish does from the end of max-age.
    set beresp.grace = std.duration(
        regsub(beresp.http.Cache-Control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 0s);
    set beresp.keep = 1h; # so that what is too old can be asked for with If-None-Match
}
sub vcl_hit {
    # Fresh, or stale for less than stale-while-revalidate: given at once, and fetched behind it.
    if (obj.ttl + std.duration(
        regsub(obj.http.Cache-Control, "^.*stale-while-revalidate=([0-9]+).*$", "\1s"), 0s) < 0s
        && req.restarts == 0) {
        set req.grace = 0s; # older than that: asked for first
        return (restart);
    }
}
sub vcl_deliver {
    # It was asked for and is not to be had: what is there, for as long as Larder allows.
    if (resp.status >= 500 && req.restarts == 1) {
        set req.grace = 10y;
        return (restart);
    }
}
