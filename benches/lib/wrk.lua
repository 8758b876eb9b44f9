-- What wrk sends, and how it reports: one line of JSON. Arguments: TARGET PIPELINED KEYS.

function init(arguments)
   local target, pipelined = arguments[1], tonumber(arguments[2])
   keys = tonumber(arguments[3])
   if keys > 0 then
      math.randomseed(1)
      before, after = target:match("^(.*)%%d(.*)$")
      return
   end
   local one = wrk.format("GET", target)
   whole = one:rep(pipelined)
end

function request()
   if keys > 0 then
      return wrk.format("GET", before .. math.random(keys) .. after)
   end
   return whole
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %d, "p99": %d, "p999": %d, "worst": %d}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
