-- For wrk: sends each request of the file in POS_SYNC_BENCH_REQUESTS once, and prints one line of JSON at the end.
local requests = {}
local sent = 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = io.open(os.getenv("POS_SYNC_BENCH_REQUESTS"), "rb")
  for request in string.gmatch(file:read("*a"), "[^%z]+") do
    requests[#requests + 1] = request
  end
  file:close()
  exhausted = 0
end

function request()
  sent = sent + 1
  if sent > #requests then
    -- Nothing may be sent twice: a copy is answered without a ledger row, which is other work than what is measured.
    exhausted = 1
    wrk.thread:stop()
    return requests[#requests]
  end
  return requests[sent]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"seconds": %.6f, "answers": %d, "bad": %d, "exhausted": %d, "p50_ms": %.4f, "p99_ms": %.4f}\n',
    summary.duration / 1e6, summary.requests, e.status + e.connect + e.read + e.write + e.timeout,
    threads[1]:get("exhausted"), latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
