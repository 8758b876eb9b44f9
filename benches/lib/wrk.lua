-- What wrk sends, and how it reports: one line of JSON. Arguments: TARGET PIPELINED KEYS VARIED.

local number = "000000"

function init(arguments)
   local target, pipelined = arguments[1], tonumber(arguments[2])
   keys, is_varied = tonumber(arguments[3]), arguments[4] == "varied"
   math.randomseed(1)
   if is_varied then
      wrk.headers["X-Request-ID"] = number
   end
   local one = wrk.format("GET", target)
   if keys > 0 then
      before, one = one:match("^(.-)%%d(.*)$")
   end
   if is_varied then
      one, after = one:match("^(.*)" .. number .. "(.*)$")
   end
   whole = one:rep(pipelined)
end

function request()
   local text = whole
   if keys > 0 then
      text = before .. math.random(keys) .. text
   end
   if is_varied then
      text = text .. string.format("%06d", math.random(999999)) .. after
   end
   return text
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %d, "p99": %d, "p999": %d, "worst": %d}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
