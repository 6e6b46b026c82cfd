/**
 * Pick-up latency: from the return of an enqueue to the start of the handler, by the clock the processes share. The worker
 * is a process of its own that says when each of its handlers started; with the doorbell, both are one process.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { type Answer, now, percentile, type Request } from "./Measurement.ts"

/** Handlers call it when they start. `n` below 0 is load, which is not measured. */
export type Started = (n: number) => void

/** In the worker's process: tells the one that forked it. */
export const tellParent: Started = (n) => {
  if (n >= 0) process.send?.([n, now()])
}

/** Says that the worker is ready, then works until it is killed. */
export const ready = (): Promise<never> => {
  process.send?.("ready")
  return new Promise(() => {})
}

/** Starts a further process of a measurement, of another scenario, and waits until it says that it is ready. */
export const forkWorker = async (request: Request, scenario: string): Promise<ChildProcess> => {
  // The program of this very process
  const worker = fork(process.argv[1] ?? "", [JSON.stringify({ ...request, scenario })], {
    stdio: ["ignore", "ignore", "inherit", "ipc"]
  })
  process.once("exit", () => worker.kill("SIGKILL"))
  await once(worker, "message")
  return worker
}

/** Enqueues one job after the other, with random pauses, and answers the median and the 99th percentile. */
export const sample = async (
  samples: number,
  listen: (heard: (n: number, at: number) => void) => void,
  enqueue: (n: number) => Promise<unknown>
): Promise<Answer> => {
  let heard = (_n: number, _at: number) => {}
  listen((n, at) => heard(n, at))
  const warmUp = Math.ceil(samples / 20)
  const values: Array<number> = []
  for (let n = 0; n < samples + warmUp; n++) {
    const start = new Promise<number>((resolve) => {
      heard = (m, at) => {
        if (m === n) resolve(at)
      }
    })
    await enqueue(n)
    const returned = now()
    // The handler may start before the enqueue has returned
    const latency = Math.max(0, (await start) - returned)
    if (n >= warmUp) values.push(latency)
    await new Promise((resolve) => setTimeout(resolve, 5 + Math.random() * 10))
  }
  return {
    value: percentile(values, 0.5),
    unit: "ms",
    also: { p99: { value: percentile(values, 0.99), unit: "ms" } }
  }
}

/** The whole of it for a system whose worker is another process; `load` jobs per second come beside the measured ones. */
export const acrossProcesses = async (
  request: Request,
  enqueue: (n: number) => Promise<unknown>,
  enqueueMany: (payloads: ReadonlyArray<{ readonly n: number }>) => Promise<unknown>
): Promise<Answer> => {
  const worker = await forkWorker(request, "pickUpWorker")
  let isOver = false
  const load = async () => {
    while (!isOver && request.load > 0) {
      await enqueueMany(Array.from({ length: Math.ceil(request.load / 50) }, () => ({ n: -1 })))
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const loading = load()
  try {
    return await sample(
      request.samples,
      (heard) => {
        worker.on("message", (message) => {
          if (Array.isArray(message)) heard(Number(message[0]), Number(message[1]))
        })
      },
      enqueue
    )
  } finally {
    isOver = true
    await loading
    worker.kill("SIGKILL")
  }
}
