/**
 * Every metric of Polyqueue: its name after the OpenTelemetry messaging conventions where one exists (`polyqueue.…` where
 * none does), its kind, unit and description. The exporters are made from this table; so is what they call a metric.
 */

/** One metric. */
export interface Instrument {
  readonly name: string
  readonly kind: "counter" | "gauge" | "histogram"
  /** UCUM: `s`, `By`, `{job}`, … */
  readonly unit: string
  readonly description: string
}

const counter = (name: string, unit: string, description: string): Instrument => ({
  name,
  kind: "counter",
  unit,
  description
})
const gauge = (name: string, unit: string, description: string): Instrument => ({
  name,
  kind: "gauge",
  unit,
  description
})
const histogram = (name: string, unit: string, description: string): Instrument => ({
  name,
  kind: "histogram",
  unit,
  description
})

/** The table. Durations are seconds. */
export const instruments = {
  // Jobs: by queue and type
  sent: counter("messaging.client.sent.messages", "{message}", "Jobs enqueued"),
  deduplicated: counter("polyqueue.enqueue.deduplicated", "{job}", "Enqueues answered with an existing job"),
  consumed: counter("messaging.client.consumed.messages", "{message}", "Attempts started"),
  wait: histogram("polyqueue.job.wait", "s", "From due to started"),
  processed: histogram("messaging.process.duration", "s", "Run time of an attempt, by outcome"),
  attempts: counter("polyqueue.attempts", "{attempt}", "Attempts ended, by outcome"),
  retried: counter("polyqueue.jobs.retried", "{job}", "Jobs queued for another attempt after a failure, by outcome"),
  ended: counter("polyqueue.jobs.ended", "{job}", "Jobs ended, by the outcome of their last attempt"),
  attemptsPerJob: histogram("polyqueue.job.attempts", "{attempt}", "Attempts a job took until it ended"),
  leasesLost: counter("polyqueue.leases.lost", "{attempt}", "Attempts that found they own their job no more"),
  reaped: counter("polyqueue.attempts.reaped", "{attempt}", "Attempts ended by maintenance, by outcome"),
  // Hints: by broker
  hints: counter("polyqueue.hints.published", "{message}", "Hints published"),
  hintsFailed: counter(
    "polyqueue.hints.failed",
    "{message}",
    "Hints the broker refused; the relay publishes them again"
  ),
  // Queues: counted once per interval by the fleet, the same on every worker
  queueJobs: gauge("polyqueue.queue.jobs", "{job}", "Jobs in a queue, by state. The same on every worker: take max"),
  claimable: gauge("polyqueue.queue.claimable", "{job}", "Jobs a worker with room would take now"),
  stale: gauge("polyqueue.queue.stale", "{job}", "Running jobs whose reported progress is old"),
  oldestAge: gauge("polyqueue.queue.oldest.age", "s", "How long the oldest due job has waited"),
  relayLag: gauge("polyqueue.relay.lag", "s", "How long the oldest unpublished hint is due"),
  // Workers
  workerEvents: counter("polyqueue.worker.events", "{event}", "Workers started, stopped, died; heartbeats"),
  slots: gauge("polyqueue.worker.slots", "{job}", "Jobs a worker runs at once"),
  running: gauge("polyqueue.worker.running", "{job}", "Jobs a worker runs now"),
  draining: gauge("polyqueue.worker.draining", "1", "1 while a worker claims nothing new"),
  eventLoopDelay: gauge("nodejs.eventloop.delay.max", "s", "How late the event loop was at worst"),
  memory: gauge("process.memory.usage", "By", "Resident memory of the process"),
  loopFailures: counter(
    "polyqueue.loop.failures",
    "{failure}",
    "Failed rounds of background loops; each is tried again"
  )
} as const satisfies Record<string, Instrument>

/** Bounds of durations: from a millisecond to an hour. */
export const durationBoundaries = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600
]

/** Bounds of numbers of attempts. */
export const attemptBoundaries = [1, 2, 3, 4, 5, 7, 10, 15, 25, 50]

/** What Prometheus calls these metrics, by its conventions: a suffix for the unit, and `_total` for counters. */
export const prometheusNames: ReadonlyMap<string, string> = new Map(
  Object.values(instruments).map(({ kind, name, unit }) => {
    const plain = name.replaceAll(".", "_")
    const suffix = unit === "s" ? "_seconds" : unit === "By" ? "_bytes" : ""
    return [name, `${plain}${suffix}${kind === "counter" ? "_total" : ""}`]
  })
)
