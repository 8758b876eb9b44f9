sub vcl_backend_response {
    # Serve while Larder fails for as long as it allows. Varnish counts from the end of max-age.
    set beresp.grace = std.duration(
        regsub(beresp.http.Cache-Control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 0s);
    set beresp.keep = 1h; # so that an expired answer can be revalidated with If-None-Match
}
sub vcl_hit {
    # Fresh, or within stale-while-revalidate: delivered at once, then fetched in the background.
    if (obj.ttl + std.duration(
        regsub(obj.http.Cache-Control, "^.*stale-while-revalidate=([0-9]+).*$", "\1s"), 0s) < 0s
        && req.restarts == 0) {
        set req.grace = 0s; # older: fetched first
        return (restart);
    }
}
sub vcl_deliver {
    # The fetch failed: deliver the stored answer, for as long as Larder allows.
    if (resp.status >= 500 && req.restarts == 1) {
        set req.grace = 10y;
        return (restart);
    }
}
