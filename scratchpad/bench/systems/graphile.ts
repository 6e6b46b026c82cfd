/**
 * graphile-worker as its documentation advises for throughput: a local queue of 500 jobs and batched completion. It deletes
 * jobs when they are done.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { inBatches, maxRss, perSecond, type Request, type System } from "../Measurement.ts"
import { load } from "../Peers.ts"
import { acrossProcesses, ready, tellParent } from "../PickUp.ts"

interface Payload {
  readonly n: number
}
interface PgClient {
  readonly query: (text: string) => Promise<{ readonly rows: ReadonlyArray<{ readonly n: number }> }>
}
interface Utils {
  readonly migrate: () => Promise<void>
  readonly addJob: (identifier: string, payload: Payload) => Promise<unknown>
  readonly addJobs: (
    specs: ReadonlyArray<{ readonly identifier: string; readonly payload: Payload }>
  ) => Promise<unknown>
  readonly withPgClient: <A>(use: (client: PgClient) => Promise<A>) => Promise<A>
}
interface Graphile {
  readonly makeWorkerUtils: (options: object) => Promise<Utils>
  readonly run: (options: object) => Promise<{ readonly stop: () => Promise<void> }>
  readonly Logger: new (factory: () => () => void) => unknown
}

const open = async (request: Request) => {
  const graphile = await load<Graphile>(request.peers, "graphile-worker")
  const logger = new graphile.Logger(() => () => {})
  const utils = await graphile.makeWorkerUtils({ connectionString: request.postgres, logger })
  await utils.migrate()
  const work = (task: (payload: Payload) => unknown) =>
    graphile.run({
      logger,
      noHandleSignals: true,
      preset: {
        worker: {
          connectionString: request.postgres,
          concurrentJobs: 100,
          pollInterval: 2_000,
          localQueue: { size: 500 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0
        }
      },
      taskList: { noop: task }
    })
  const count = () =>
    utils.withPgClient(async (client) => {
      const { rows } = await client.query("select count(*)::int as n from graphile_worker._private_jobs")
      return rows[0]!.n
    })
  const empty = () =>
    utils.withPgClient(async (client) => {
      await client.query("truncate graphile_worker._private_jobs")
      return undefined
    })
  const send = (payloads: ReadonlyArray<Payload>) =>
    utils.addJobs(payloads.map((payload) => ({ identifier: "noop", payload })))
  return { utils, work, count, empty, send }
}

export const system: System = {
  enqueue: async (request) => {
    const { empty, utils } = await open(request)
    await empty()
    return {
      value: await perSecond(request.callers, request.seconds, () => utils.addJob("noop", { n: 1 })),
      unit: "jobs/s"
    }
  },
  enqueueAll: async (request) => {
    const { empty, send } = await open(request)
    await empty()
    return { value: await inBatches(request.jobs, send), unit: "jobs/s" }
  },
  drain: async (request) => {
    const { count, work } = await open(request)
    let ended = 0
    const start = performance.now()
    await work(async () => {
      if (request.work > 0) await sleep(request.work)
      ended++
    })
    while (ended < request.jobs || (await count()) > 0) await sleep(5)
    return {
      value: (request.jobs * 1_000) / (performance.now() - start),
      unit: "jobs/s",
      also: { RSS: maxRss() }
    }
  },
  pickUpWorker: async (request) => {
    const { empty, work } = await open(request)
    await empty()
    await work(({ n }) => tellParent(n))
    return ready()
  },
  pickUp: async (request) => {
    const { send, utils } = await open(request)
    return acrossProcesses(request, (n) => utils.addJob("noop", { n }), send)
  }
}
