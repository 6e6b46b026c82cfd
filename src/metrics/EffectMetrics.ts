/**
 * Events as Effect `Metric`s in the registry of the fiber that builds the layer, where Prometheus and OTLP exporters read
 * them. Handles are made once per queue and type; an event finds them without building a key.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { AttemptOutcome, FleetStats } from "../store/JobStoreDriver.ts"
import { attemptBoundaries, durationBoundaries, type Instrument, instruments } from "./Instruments.ts"
import type { MetricEvent } from "./MetricEvent.ts"

type Attributes = Readonly<Record<string, string>>

/** One series: adds to a counter, sets a gauge, observes in a histogram. */
type Series = (value: number) => void

/** The series of one queue and type. */
interface JobSeries {
  readonly queue: string
  readonly type: string
  readonly sent: Series
  readonly deduplicated: Series
  readonly consumed: Series
  readonly wait: Series
  readonly attemptsPerJob: Series
  readonly leasesLost: Series
  readonly outcomes: Partial<Record<AttemptOutcome, OutcomeSeries>>
}

interface OutcomeSeries {
  readonly processed: Series
  readonly attempts: Series
  readonly retried: Series
  readonly ended: Series
  readonly reaped: Series
}

const metricOf = ({ description, kind, name, unit }: Instrument, attributes: Attributes) => {
  const options = { description, attributes: { unit, ...attributes } }
  switch (kind) {
    case "counter":
      return Metric.counter(name, { ...options, incremental: true })
    case "gauge":
      return Metric.gauge(name, options)
    case "histogram":
      return Metric.histogram(name, {
        ...options,
        boundaries: unit === "s" ? durationBoundaries : attemptBoundaries
      })
  }
}

/** Attempts that count as a failure of their job: another one is a retry. */
const isFailure = (outcome: AttemptOutcome): boolean =>
  outcome === "failed" || outcome === "timedOut" || outcome === "crashed"

const system = { "messaging.system": "polyqueue" }
const send = { "messaging.operation.name": "enqueue", "messaging.operation.type": "send" }
const process = { "messaging.operation.name": "run", "messaging.operation.type": "process" }

/** Makes the sink. */
export const make = Effect.map(Effect.context<never>(), (context) => {
  const series = (instrument: Instrument, attributes: Attributes): Series => {
    const metric = metricOf(instrument, attributes)
    return (value) => metric.updateUnsafe(value, context)
  }

  const byQueue = new Map<string, Map<string, JobSeries>>()
  let last: JobSeries | undefined
  const ofJob = (queue: string, type: string): JobSeries => {
    // Events of one job, and of many like it, follow each other
    if (last !== undefined && last.queue === queue && last.type === type) return last
    let types = byQueue.get(queue)
    if (types === undefined) byQueue.set(queue, (types = new Map()))
    last = types.get(type)
    if (last === undefined) types.set(type, (last = makeJobSeries(queue, type)))
    return last
  }
  const makeJobSeries = (queue: string, type: string): JobSeries => {
    const at = { "messaging.destination.name": queue, "polyqueue.job.type": type }
    return {
      queue,
      type,
      sent: series(instruments.sent, { ...system, ...send, ...at }),
      deduplicated: series(instruments.deduplicated, at),
      consumed: series(instruments.consumed, { ...system, ...process, ...at }),
      wait: series(instruments.wait, at),
      attemptsPerJob: series(instruments.attemptsPerJob, at),
      leasesLost: series(instruments.leasesLost, at),
      outcomes: {}
    }
  }
  const ofOutcome = (job: JobSeries, outcome: AttemptOutcome): OutcomeSeries => {
    const known = job.outcomes[outcome]
    if (known !== undefined) return known
    const at = { "messaging.destination.name": job.queue, "polyqueue.job.type": job.type, "polyqueue.outcome": outcome }
    const error = isFailure(outcome) ? { "error.type": outcome } : {}
    return (job.outcomes[outcome] = {
      processed: series(instruments.processed, { ...system, ...process, ...at, ...error }),
      attempts: series(instruments.attempts, at),
      retried: series(instruments.retried, at),
      ended: series(instruments.ended, at),
      reaped: series(instruments.reaped, at)
    })
  }

  /** Series that are few: by instrument and their attributes. */
  const others = new Map<string, Series>()
  const update = (instrument: Instrument, attributes: Attributes, value: number) => {
    const key = `${instrument.name}\u0000${Object.values(attributes).join("\u0000")}`
    let known = others.get(key)
    if (known === undefined) others.set(key, (known = series(instrument, attributes)))
    known(value)
  }

  const hints = new Map<string, { readonly published: Series; readonly failed: Series }>()
  const ofBroker = (broker: string) => {
    let known = hints.get(broker)
    if (known === undefined) {
      const at = { "messaging.system": broker }
      known = { published: series(instruments.hints, at), failed: series(instruments.hintsFailed, at) }
      hints.set(broker, known)
    }
    return known
  }

  let queuesBefore: ReadonlyArray<string> = []
  const recordFleet = ({ queues, relayLag }: FleetStats) => {
    const names = queues.map(({ queue }) => queue)
    // A queue that is gone is empty, not what it was when it was seen last
    const gone = queuesBefore.filter((queue) => !names.includes(queue))
    queuesBefore = [...names, ...gone]
    for (const one of [...queues, ...gone.map(emptyQueue)]) {
      const at = { "messaging.destination.name": one.queue }
      for (const state of ["due", "waiting", "processing", "succeeded", "failed", "cancelled"] as const) {
        update(instruments.queueJobs, { ...at, "polyqueue.state": state }, one[state])
      }
      update(instruments.claimable, at, one.claimable)
      update(instruments.stale, at, one.stale)
      update(instruments.oldestAge, at, one.oldestAge / 1_000)
    }
    update(instruments.relayLag, {}, relayLag / 1_000)
  }

  const record = (event: MetricEvent): void => {
    switch (event._tag) {
      case "Enqueued": {
        const job = ofJob(event.queue, event.type)
        if (event.count > 0) job.sent(event.count)
        if (event.duplicates > 0) job.deduplicated(event.duplicates)
        return
      }
      case "Started": {
        const job = ofJob(event.queue, event.type)
        job.consumed(1)
        return job.wait(event.waited / 1_000)
      }
      case "Ended": {
        const job = ofJob(event.queue, event.type)
        const outcome = ofOutcome(job, event.outcome)
        outcome.attempts(1)
        outcome.processed(event.ran / 1_000)
        if (event.final) {
          outcome.ended(1)
          job.attemptsPerJob(event.attempt)
        } else if (isFailure(event.outcome)) outcome.retried(1)
        return
      }
      case "LeaseLost":
        return ofJob(event.queue, event.type).leasesLost(1)
      case "Reaped": {
        const outcome = ofOutcome(ofJob(event.queue, event.type), event.outcome)
        outcome.attempts(1)
        outcome.reaped(1)
        return event.final ? outcome.ended(1) : outcome.retried(1)
      }
      case "HintsPublished": {
        const broker = ofBroker(event.broker)
        if (event.count > 0) broker.published(event.count)
        if (event.failed > 0) broker.failed(event.failed)
        return
      }
      case "Fleet":
        return recordFleet(event.stats)
      case "WorkerState": {
        const at = { "polyqueue.worker.name": event.name }
        update(instruments.slots, at, event.slots)
        update(instruments.running, at, event.running)
        update(instruments.draining, at, event.draining ? 1 : 0)
        update(instruments.eventLoopDelay, {}, event.eventLoopDelay / 1_000)
        return update(instruments.memory, {}, event.memory)
      }
      case "Worker":
        return update(
          instruments.workerEvents,
          { "polyqueue.worker.event": event.event, "polyqueue.worker.name": event.name },
          1
        )
      case "LoopFailed":
        return update(instruments.loopFailures, { "polyqueue.loop": event.loop }, 1)
    }
  }
  return { enabled: true, record }
})

const emptyQueue = (queue: string): FleetStats["queues"][number] => ({
  queue,
  claimable: 0,
  due: 0,
  waiting: 0,
  processing: 0,
  stale: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  oldestAge: 0
})
