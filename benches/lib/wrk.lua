-- Requests for wrk, and its results as one line of JSON. Arguments: TARGET PIPELINED KEYS VARIED.

local number = "000000"

function init(arguments)
   local target, pipelined, keys = arguments[1], tonumber(arguments[2]), tonumber(arguments[3])
   local is_varied = arguments[4] == "varied"
   assert(pipelined == 1 or keys == 0 and not is_varied, "requests that differ are not pipelined")
   wrk.path = target
   if is_varied then
      wrk.headers["X-Request-ID"] = number
   end
   local one = wrk.format()
   math.randomseed(1)
   if keys > 0 then
      local before, behind = one:match("^(.-)%%d(.*)$")
      local after
      if is_varied then
         behind, after = behind:match("^(.*)" .. number .. "(.*)$")
      end
      request = function()
         local text = before .. math.random(keys) .. behind
         return is_varied and text .. string.format("%06d", math.random(999999)) .. after or text
      end
   elseif is_varied then
      local before, after = one:match("^(.*)" .. number .. "(.*)$")
      request = function()
         return before .. string.format("%06d", math.random(999999)) .. after
      end
   elseif pipelined > 1 then
      local whole = one:rep(pipelined)
      request = function()
         return whole
      end
   end
   -- Otherwise wrk sends the request it has prepared.
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %d, "p99": %d, "p999": %d, "worst": %d}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max))
end
