/**
 * `doctor`: do the workers work? Those that say they are alive but are silent, those that have free slots and leave due jobs
 * alone, and due jobs that nobody could take.
 */
import * as Effect from "effect/Effect"
import { paused } from "../../store/postgres/Claim.ts"
import { system } from "../../store/postgres/DatabaseClock.ts"
import * as Spans from "../Spans.ts"
import { type Check, type Finding, ok, problem, warning } from "./Finding.ts"

/** A job due for longer than this should have been taken by a worker with a free slot. */
const patience = 30_000

export const check: Check = ({ names, read, settings }) =>
  Effect.gen(function* () {
    const staleAfter = settings.workerStaleThreshold * 1_000
    const workers = (yield* read(
      `select id, name, host, pid, slots, running_count, status, array_to_json(queues)::text, array_to_json(job_types)::text,
        (date_part('epoch', ${system.moment} - heartbeat_at) * 1000)::float8
      from ${names.workers} where status in ('running', 'draining')`
    )).map((row) => ({
      id: String(row[0]),
      label: `${String(row[1])} (${String(row[2])}/${String(row[3])})`,
      free: Number(row[4]) - Number(row[5]),
      isRunning: row[6] === "running",
      queues: new Set(JSON.parse(String(row[7])) as ReadonlyArray<string>),
      types: new Set(JSON.parse(String(row[8])) as ReadonlyArray<string>),
      silence: Number(row[9])
    }))
    const lanes = (yield* read(
      `select l.*, (date_part('epoch', ${system.moment} - l.oldest) * 1000)::float8 from (
        select j.queue, j.type, count(*)::int, min(j.run_at) as oldest from ${names.jobs} j
        where j.status = 'queued' and j.run_at <= ${system.now} - $1::float8 * interval '1 millisecond'
        group by j.queue, j.type
      ) l where not ${paused(names, system, "l.queue", "l.type")}
      order by l.oldest limit 100`,
      [patience]
    )).map((row) => ({ queue: String(row[0]), type: String(row[1]), due: Number(row[2]), age: Number(row[4]) }))

    const findings: Array<Finding> = []
    const live = workers.filter(({ silence }) => silence <= staleAfter)
    for (const { id, label, silence } of workers.filter((worker) => worker.silence > staleAfter)) {
      findings.push(
        problem(
          "workers",
          `worker ${label} is silent for ${Spans.show(silence)} and not marked dead: no other worker does maintenance`,
          `start a worker, or see what became of ${id}`
        )
      )
    }
    for (const { age, due, queue, type } of lanes) {
      const able = live.filter((worker) => worker.queues.has(queue) && worker.types.has(type))
      const taking = able.filter((worker) => worker.isRunning)
      const idle = taking.filter((worker) => worker.free > 0)
      const what = `${Spans.count(due)} due ${due === 1 ? "job" : "jobs"} of type ${type} in queue ${queue}, the oldest for ${Spans.show(age)}`
      if (taking.length === 0) {
        const draining = able.length === 0 ? "" : ` (${able.length} draining)`
        findings.push(
          problem("workers", `${what}: no live worker takes them${draining}`, "start a worker with a handler for them")
        )
      }
      if (idle.length > 0) {
        const free = idle.reduce((sum, worker) => sum + worker.free, 0)
        const who = idle.slice(0, 5).map(({ label }) => label)
        findings.push(
          problem(
            "workers",
            `${idle.length === 1 ? "a worker is" : `${idle.length} workers are`} connected but not consuming: ${free} free slots, ` +
              `and ${what}: ${who.join(", ")}${idle.length > 5 ? ", …" : ""}`,
            "look at the log; one that is stuck is replaced by restarting it"
          )
        )
      }
      if (taking.length > 0 && idle.length === 0) {
        findings.push(
          warning("workers", `${what}: all slots of ${taking.length} workers are busy`, "start more workers")
        )
      }
    }
    if (findings.length > 0) return findings
    return [
      live.length === 0
        ? ok("workers", "no workers, and nothing has waited for one")
        : ok(
            "workers",
            `${live.length} alive, ${live.filter((worker) => worker.isRunning).length} taking jobs, none leaves due jobs alone`
          )
    ]
  })
