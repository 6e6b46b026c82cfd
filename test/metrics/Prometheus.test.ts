/** What Prometheus scrapes from a running worker over HTTP: it parses, and agrees with the database. */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Metric, Schedule, Schema } from "effect"
import { HttpClient, HttpRouter } from "effect/http"
import { SqlClient } from "effect/sql"
import { Broker, Job, Polyqueue, TerminalError, Worker } from "../../src/index.ts"
import * as Exporters from "../../src/metrics/Exporters.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

class Mixed extends Job.make("Mixed", {
  payload: { how: Schema.Literals(["well", "badly", "late", "stuck"]) },
  queue: "mail",
  retry: { schedule: Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 1 })) },
  timeout: { after: "1 minute" }
}) {}
class Unhandled extends Job.make("Unhandled", { queue: "mail" }) {}

interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** The text format of Prometheus, strictly: every line is a comment of a known kind or a sample of a declared metric. */
const parse = (text: string): ReadonlyArray<Sample> => {
  assert.isTrue(text.endsWith("\n"))
  const types = new Map<string, string>()
  return text
    .trimEnd()
    .split("\n")
    .flatMap((line) => {
      if (line.startsWith("# HELP ")) return []
      const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line)
      if (type !== null) {
        assert.isFalse(types.has(type[1]!), `${type[1]} is declared once`)
        types.set(type[1]!, type[2]!)
        return []
      }
      const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
      assert.isNotNull(sample, line)
      const [, name = "", labels = "", value = ""] = sample!
      const declared = types.has(name) || types.get(name.replace(/_(bucket|sum|count)$/, "")) === "histogram"
      assert.isTrue(declared, `${name} is declared`)
      const pairs = [...labels.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)/g)]
      assert.strictEqual(pairs.map(([all]) => all).join(""), labels)
      const number = value === "+Inf" ? Infinity : Number(value)
      assert.isFalse(Number.isNaN(number), line)
      return [{ name, labels: Object.fromEntries(pairs.map(([, key, text]) => [key!, text!])), value: number }]
    })
}

const sum = (samples: ReadonlyArray<Sample>, name: string, labels: Sample["labels"] = {}): number =>
  samples
    .filter((one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value))
    .reduce((total, { value }) => total + value, 0)

describePostgres("the Prometheus endpoint of a running worker", () => {
  it.live("parses, and agrees with the database", () =>
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const MixedLive = Mixed.toLayer(
        Effect.fnUntraced(function* ({ how }) {
          if (how === "badly") return yield* Effect.fail(new TerminalError({ message: "no" }))
          if (how === "late") return yield* Effect.die("boom")
          if (how === "stuck") yield* Deferred.await(gate)
        })
      )
      const Live = Layer.mergeAll(
        Worker.layer([Mixed], { concurrency: 3, observeEvery: "50 millis", name: "prom" }).pipe(
          Layer.provide(MixedLive)
        ),
        HttpRouter.serve(Exporters.layerPrometheus(), { disableListenLog: true, disableLogger: true })
      ).pipe(
        Layer.provideMerge(Polyqueue.layerPostgres),
        Layer.provideMerge(Broker.layerPostgres),
        Layer.provideMerge(layerFresh()),
        Layer.provideMerge(NodeHttpServer.layerTest)
      )
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const many = (how: "well" | "badly" | "late" | "stuck", n: number) =>
          Mixed.enqueueAll(Array.from({ length: n }, () => ({ how })))
        yield* many("well", 20)
        yield* many("badly", 3)
        yield* many("late", 2)
        yield* Mixed.enqueue({ how: "well" }, { delay: "1 hour" })
        // By a process without a broker: its hint is nobody's to relay here
        yield* Unhandled.enqueue().pipe(Effect.provide(Polyqueue.layerProducer))
        yield* many("stuck", 2)
        const rows = sql<{ status: string; n: number }>`
          select case when status = 'queued' and run_at > now() then 'waiting' else status end as status, count(*)::int as n
          from polyqueue.polyqueue_jobs group by 1`
        const counts = Effect.map(rows, (rows) => Object.fromEntries(rows.map(({ n, status }) => [status, n])))
        const settled = { succeeded: 20, failed: 5, processing: 2, waiting: 1, queued: 1 }
        yield* Effect.repeat(Effect.delay(counts, "20 millis"), {
          until: (now) => JSON.stringify(now, Object.keys(settled)) === JSON.stringify(settled, Object.keys(settled))
        })

        const client = yield* HttpClient.HttpClient
        const scrape = Effect.gen(function* () {
          const response = yield* client.get("/metrics")
          assert.match(response.headers["content-type"] ?? "", /^text\/plain; version=0\.0\.4/)
          return parse(yield* response.text)
        })
        const queue = { messaging_destination_name: "mail" }
        const inState = (samples: ReadonlyArray<Sample>, state: string) =>
          sum(samples, "polyqueue_queue_jobs", { ...queue, polyqueue_state: state })
        // The gauges follow within an interval, and stay
        const states = ["due", "waiting", "processing", "succeeded", "failed", "cancelled"]
        const samples = yield* Effect.repeat(Effect.delay(scrape, "50 millis"), {
          until: (samples) => states.map((state) => inState(samples, state)).join() === "1,1,2,20,5,0"
        })
        assert.strictEqual(sum(samples, "polyqueue_queue_claimable", queue), 1)
        assert.isAbove(sum(samples, "polyqueue_queue_oldest_age_seconds", queue), 0)

        const [log] = yield* sql<{ attempts: number; failed: number; retried: number }>`
          select count(*)::int as attempts, count(*) filter (where outcome = 'failed')::int as failed,
            count(*) filter (where attempt = 1 and exists (
              select from polyqueue.polyqueue_attempts b where b.job_id = a.job_id and b.attempt = 2))::int as retried
          from polyqueue.polyqueue_attempts a`
        assert.deepStrictEqual(log, { attempts: 27, failed: 7, retried: 2 })
        const job = { ...queue, polyqueue_job_type: "Mixed" }
        for (const [name, expected, labels] of [
          ["messaging_client_sent_messages_total", 28, {}],
          ["messaging_client_sent_messages_total", 28, job],
          ["messaging_client_consumed_messages_total", 29, job],
          ["polyqueue_attempts_total", 27, job],
          ["polyqueue_attempts_total", 7, { ...job, polyqueue_outcome: "failed" }],
          ["messaging_process_duration_seconds_count", 27, job],
          ["messaging_process_duration_seconds_count", 7, { ...job, error_type: "failed" }],
          ["polyqueue_jobs_retried_total", 2, job],
          ["polyqueue_jobs_ended_total", 25, job],
          ["polyqueue_job_attempts_sum", 27, job],
          ["polyqueue_job_wait_seconds_count", 29, job],
          ["polyqueue_worker_running", 2, { polyqueue_worker_name: "prom" }],
          ["polyqueue_worker_slots", 3, {}],
          ["polyqueue_worker_events_total", 1, { polyqueue_worker_event: "started" }]
        ] as const) {
          assert.strictEqual(sum(samples, name, labels), expected, `${name} ${JSON.stringify(labels)}`)
        }
        assert.strictEqual(sum(samples, "polyqueue_relay_lag_seconds", {}), 0, "no broker here carries hints")
        const names = new Set(samples.map((one) => one.name))
        for (const name of [
          "polyqueue_relay_lag_seconds",
          "polyqueue_queue_stale",
          "nodejs_eventloop_delay_max_seconds",
          "process_memory_usage_bytes",
          "polyqueue_worker_draining"
        ]) {
          assert.isTrue(names.has(name), name)
        }
        yield* Deferred.succeed(gate, undefined)
      }).pipe(Effect.provide(Live))
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )
})
