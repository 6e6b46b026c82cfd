import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { MetricEvent } from "./MetricEvent.ts"

/** Metric handles. Names and units (seconds) follow the OpenTelemetry messaging conventions where one exists. */
const enqueued = Metric.counter("polyqueue_enqueued_total", { description: "Jobs enqueued", incremental: true })
const duplicates = Metric.counter("polyqueue_deduplicated_total", {
  description: "Enqueues answered with an existing job",
  incremental: true
})
const started = Metric.counter("polyqueue_attempts_started_total", {
  description: "Attempts started",
  incremental: true
})
const ended = Metric.counter("polyqueue_attempts_ended_total", {
  description: "Attempts ended, by outcome",
  incremental: true
})
const jobsEnded = Metric.counter("polyqueue_jobs_ended_total", {
  description: "Jobs ended, by outcome",
  incremental: true
})
const leasesLost = Metric.counter("polyqueue_leases_lost_total", {
  description: "Attempts that lost their lease",
  incremental: true
})
const reaped = Metric.counter("polyqueue_reaped_total", {
  description: "Attempts ended by maintenance",
  incremental: true
})
const hints = Metric.counter("polyqueue_hints_published_total", { description: "Hints published", incremental: true })
const hintsFailed = Metric.counter("polyqueue_hints_failed_total", {
  description: "Hints the broker refused",
  incremental: true
})
const workers = Metric.counter("polyqueue_workers_total", { description: "Worker events", incremental: true })
const loops = Metric.counter("polyqueue_loop_failures_total", {
  description: "Background loops restarted",
  incremental: true
})
const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600]
const waited = Metric.histogram("polyqueue_wait_seconds", { description: "From due to started", boundaries: seconds })
const ran = Metric.histogram("messaging_process_duration_seconds", {
  description: "Run time of an attempt",
  boundaries: seconds
})

type Attributes = Readonly<Record<string, string>>

/**
 * Keeps the events as Effect `Metric`s in the registry of the fiber that builds the layer. Handles with attributes are
 * made once per combination.
 */
export const make = Effect.map(Effect.context<never>(), (context) => {
  const cache = new Map<string, Metric.Metric<number, unknown>>()
  const update = (metric: Metric.Metric<number, unknown>, attributes: Attributes, value: number) => {
    let key = metric.id
    for (const name in attributes) key += `\u0000${attributes[name]}`
    let handle = cache.get(key)
    if (handle === undefined) cache.set(key, (handle = Metric.withAttributes(metric, attributes)))
    handle.updateUnsafe(value, context)
  }
  const record = (event: MetricEvent): void => {
    switch (event._tag) {
      case "Enqueued": {
        const at = { queue: event.queue, type: event.type }
        if (event.count > 0) update(enqueued, at, event.count)
        if (event.duplicates > 0) update(duplicates, at, event.duplicates)
        return
      }
      case "Started": {
        const at = { queue: event.queue, type: event.type }
        update(started, at, 1)
        return update(waited, at, event.waited / 1000)
      }
      case "Ended": {
        const at = { queue: event.queue, type: event.type, outcome: event.outcome }
        update(ended, at, 1)
        if (event.final) update(jobsEnded, at, 1)
        return update(ran, at, event.ran / 1000)
      }
      case "LeaseLost":
        return update(leasesLost, { queue: event.queue, type: event.type }, 1)
      case "Reaped": {
        const at = { queue: event.queue, type: event.type, outcome: event.outcome }
        update(reaped, at, 1)
        if (event.final) update(jobsEnded, at, 1)
        return
      }
      case "HintsPublished": {
        const at = { broker: event.broker }
        if (event.count > 0) update(hints, at, event.count)
        if (event.failed > 0) update(hintsFailed, at, event.failed)
        return
      }
      case "Worker":
        return update(workers, { event: event.event, name: event.name }, 1)
      case "LoopFailed":
        return update(loops, { loop: event.loop }, 1)
    }
  }
  return { enabled: true, record }
})
