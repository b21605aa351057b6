-- Asks for the balance of a random person's card. Arguments: a file of "token cardId" lines, and a seed.
-- Every answer but a good one is counted by wrk itself; the bench calls the run invalid when there was one.

local requests = {}

function init(args)
  math.randomseed(tonumber(args[2]))
  for line in io.lines(args[1]) do
    local token, card = line:match("^(%S+) (%S+)$")
    local headers = { ["Host"] = wrk.headers["Host"], ["Authorization"] = "Bearer " .. token }
    requests[#requests + 1] = wrk.format("GET", "/v1/cards/" .. card .. "/balance", headers)
  end
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'bench {"requests": %d, "seconds": %f, "p50": %f, "p90": %f, "p99": %f, "max": %f, "broken": %d, "refused": %d, "late": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.connect + errors.read + errors.write, errors.status, errors.timeout))
end
