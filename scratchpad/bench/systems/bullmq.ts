/** BullMQ on Redis, 100 jobs at once. It keeps finished jobs. */
import { setTimeout as sleep } from "node:timers/promises"
import { inBatches, maxRss, perSecond, type Request, type System } from "../Measurement.ts"
import { load } from "../Peers.ts"
import { acrossProcesses, ready, tellParent } from "../PickUp.ts"

interface Payload {
  readonly n: number
}
interface Queue {
  readonly add: (name: string, data: Payload) => Promise<unknown>
  readonly addBulk: (jobs: ReadonlyArray<{ readonly name: string; readonly data: Payload }>) => Promise<unknown>
  readonly obliterate: (options: { readonly force: boolean }) => Promise<void>
  readonly getJobCounts: (...states: ReadonlyArray<string>) => Promise<Readonly<Record<string, number>>>
  readonly waitUntilReady: () => Promise<unknown>
}
interface BullMQ {
  readonly Queue: new (name: string, options: object) => Queue
  readonly Worker: new (
    name: string,
    run: (job: { readonly data: Payload }) => Promise<unknown>,
    options: object
  ) => { readonly waitUntilReady: () => Promise<unknown> }
}

const name = "noop"

const open = async (request: Request) => {
  const { Queue, Worker } = await load<BullMQ>(request.peers, "bullmq")
  const { hostname, port } = new URL(request.redis ?? "redis://127.0.0.1:6379")
  const connection = { host: hostname, port: Number(port), maxRetriesPerRequest: null }
  const queue = new Queue(name, { connection })
  await queue.waitUntilReady()
  const work = async (run: (payload: Payload) => unknown) => {
    const worker = new Worker(name, async (job) => run(job.data), { connection, concurrency: 100 })
    await worker.waitUntilReady()
  }
  const send = (payloads: ReadonlyArray<Payload>) => queue.addBulk(payloads.map((data) => ({ name, data })))
  return { queue, work, send }
}

export const system: System = {
  enqueue: async (request) => {
    const { queue } = await open(request)
    await queue.obliterate({ force: true })
    return { value: await perSecond(request.callers, request.seconds, () => queue.add(name, { n: 1 })), unit: "jobs/s" }
  },
  enqueueAll: async (request) => {
    const { queue, send } = await open(request)
    await queue.obliterate({ force: true })
    return { value: await inBatches(request.jobs, send), unit: "jobs/s" }
  },
  drain: async (request) => {
    const { queue, work } = await open(request)
    const start = performance.now()
    let ended = 0
    await work(async () => {
      if (request.work > 0) await sleep(request.work)
      ended++
    })
    const left = async () => {
      const counts = await queue.getJobCounts("wait", "active", "delayed", "prioritized")
      return Object.values(counts).reduce((sum, count) => sum + count, 0)
    }
    while (ended < request.jobs || (await left()) > 0) await sleep(5)
    return {
      value: (request.jobs * 1_000) / (performance.now() - start),
      unit: "jobs/s",
      also: { RSS: maxRss() }
    }
  },
  pickUpWorker: async (request) => {
    const { queue, work } = await open(request)
    await queue.obliterate({ force: true })
    await work(({ n }) => tellParent(n))
    return ready()
  },
  pickUp: async (request) => {
    const { queue, send } = await open(request)
    return acrossProcesses(request, (n) => queue.add(name, { n }), send)
  }
}
