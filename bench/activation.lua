-- Sends prepared activations, each once and in order. Argument: a file of "token key body" lines.
-- What must not happen is that the file runs out; then requests would be repeated, and the bench is told.

local requests = {}
local threads = {}
sent = 0
prepared = 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  for line in io.lines(args[1]) do
    local token, key, body = line:match("^(%S+) (%S+) (.+)$")
    local headers = {
      ["Host"] = wrk.headers["Host"],
      ["Authorization"] = "Bearer " .. token,
      ["Idempotency-Key"] = key,
      ["Content-Type"] = "application/json",
    }
    requests[#requests + 1] = wrk.format("POST", "/v1/activations", headers, body)
  end
  prepared = #requests
end

function request()
  sent = sent + 1
  return requests[math.min(sent, prepared)]
end

function done(summary, latency)
  local sent, prepared = 0, 0
  for _, thread in ipairs(threads) do
    sent = sent + thread:get("sent")
    prepared = prepared + thread:get("prepared")
  end
  local errors = summary.errors
  io.write(string.format(
    'bench {"requests": %d, "seconds": %f, "p50": %f, "p90": %f, "p99": %f, "max": %f, "broken": %d, "refused": %d, "late": %d, "lacking": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.connect + errors.read + errors.write, errors.status, errors.timeout,
    math.max(0, sent - prepared)))
end
