/** pg-boss as its documentation advises for throughput: batches of 500, burst mode, LISTEN/NOTIFY. It keeps finished jobs. */
import { setTimeout as sleep } from "node:timers/promises"
import { inBatches, maxRss, perSecond, type Request, type System } from "../Measurement.ts"
import { load } from "../Peers.ts"
import { acrossProcesses, ready, tellParent } from "../PickUp.ts"

interface Payload {
  readonly n: number
}
interface Boss {
  readonly on: (event: "error" | "warning", listener: (error: unknown) => void) => void
  readonly start: () => Promise<unknown>
  readonly createQueue: (name: string, options: object) => Promise<unknown>
  readonly deleteQueue: (name: string) => Promise<unknown>
  readonly send: (name: string, data: Payload) => Promise<unknown>
  readonly insert: (name: string, jobs: ReadonlyArray<{ readonly data: Payload }>) => Promise<unknown>
  readonly work: (
    name: string,
    options: object,
    handler: (jobs: ReadonlyArray<{ readonly data: Payload }>) => Promise<unknown>
  ) => Promise<unknown>
  readonly findJobs?: unknown
  readonly getDb: () => {
    readonly executeSql: (text: string) => Promise<{ readonly rows: ReadonlyArray<{ n: number }> }>
  }
}
interface PgBoss {
  readonly PgBoss: new (options: object) => Boss
}

const queue = "noop"

const open = async (request: Request, isFresh: boolean) => {
  const { PgBoss } = await load<PgBoss>(request.peers, "pg-boss")
  const boss = new PgBoss({ connectionString: request.postgres, useListenNotify: true, max: 10 })
  boss.on("error", (error) => process.stderr.write(`${String(error)}\n`))
  boss.on("warning", () => {})
  await boss.start()
  if (isFresh) await boss.deleteQueue(queue)
  await boss.createQueue(queue, { notify: true })
  const work = (handler: (payload: Payload) => unknown) =>
    boss.work(
      queue,
      { batchSize: 500, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 2 },
      (jobs) => Promise.all(jobs.map((job) => handler(job.data)))
    )
  const unfinished = async () => {
    const { rows } = await boss
      .getDb()
      .executeSql("select count(*)::int as n from pgboss.job where state < 'completed'")
    return rows[0]!.n
  }
  const send = (payloads: ReadonlyArray<Payload>) =>
    boss.insert(
      queue,
      payloads.map((data) => ({ data }))
    )
  return { boss, work, unfinished, send }
}

export const system: System = {
  enqueue: async (request) => {
    const { boss } = await open(request, true)
    return {
      value: await perSecond(request.callers, request.seconds, () => boss.send(queue, { n: 1 })),
      unit: "jobs/s"
    }
  },
  enqueueAll: async (request) => {
    const { send } = await open(request, true)
    return { value: await inBatches(request.jobs, send), unit: "jobs/s" }
  },
  drain: async (request) => {
    const { unfinished, work } = await open(request, false)
    let ended = 0
    const start = performance.now()
    await work(async () => {
      if (request.work > 0) await sleep(request.work)
      ended++
    })
    while (ended < request.jobs || (await unfinished()) > 0) await sleep(5)
    return {
      value: (request.jobs * 1_000) / (performance.now() - start),
      unit: "jobs/s",
      also: { RSS: maxRss() }
    }
  },
  pickUpWorker: async (request) => {
    const { work } = await open(request, true)
    await work(({ n }) => tellParent(n))
    return ready()
  },
  pickUp: async (request) => {
    const { boss, send } = await open(request, false)
    return acrossProcesses(request, (n) => boss.send(queue, { n }), send)
  }
}
