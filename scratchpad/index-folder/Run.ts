/**
 * The program: walks a folder, enqueues one job per file, runs them with two workers, and waits until all have ended.
 */
import { Cause, Console, Data, Effect, FileSystem, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { realpathSync } from "node:fs"
import { access, constants, stat } from "node:fs/promises"
import { basename, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { Metrics, Polyqueue, Worker } from "../../src/index.ts"
import { type BrokerName, brokers, needs } from "./Brokers.ts"
import { IndexFile } from "./IndexFile.ts"
import { IndexFileLive } from "./IndexFileLive.ts"
import * as Progress from "./Progress.ts"
import * as Show from "./Show.ts"
import * as Summary from "./Summary.ts"
import { walk } from "./Walk.ts"

export interface Options {
  readonly folder: string
  readonly json: boolean
  readonly broker: BrokerName
  readonly dataDir: Option.Option<string>
}

/** Why it does not even start: one line for the person who typed it. */
export class Refusal extends Data.TaggedError("Refusal")<{ readonly message: string }> {}

/** What is indexed when nothing is named: the sources of this library. */
export const defaultFolder = fileURLToPath(new URL("../../src", import.meta.url))

/** Where the person is: npm runs scripts in the folder of the package. */
const here = process.env["npm_lifecycle_event"] === "start" ? (process.env["INIT_CWD"] ?? process.cwd()) : process.cwd()

/** Jobs per INSERT. */
const batchSize = 500
/** Files that each worker reads at once. */
const concurrency = 32

export const run = Effect.fnUntraced(function* (options: Options) {
  yield* reachableBroker(options.broker)
  const folder = yield* readableFolder(options.folder)
  const dataDir = yield* databaseFolder(options)
  const view = Progress.layer({ title: `Indexing ${Show.name(basename(folder))}`, quiet: options.json })
  yield* index(options, folder, dataDir).pipe(Effect.provide(Layer.fresh(view)))
}, Effect.scoped)

const index = Effect.fnUntraced(function* (options: Options, folder: string, dataDir: string) {
  const progress = yield* Progress.Progress
  yield* progress.phase("starting Postgres inside this process: a few seconds the first time")
  const edge = Layer.mergeAll(brokers[options.broker], Layer.succeed(Metrics, yield* Metrics))
  // On top of the embedded database: the broker of the command line, and metrics that feed the view
  // Fresh: the embedded layer contains a client of its own, on the in-process broker
  const queue = Layer.fresh(Polyqueue.layer).pipe(
    Layer.provideMerge(edge),
    Layer.provideMerge(Polyqueue.layerEmbedded({ dataDir }))
  )
  yield* work(options, folder, dataDir).pipe(Effect.provide(queue))
})

const work = Effect.fnUntraced(function* (options: Options, folder: string, dataDir: string) {
  const progress = yield* Progress.Progress
  const { run, since, resumed } = yield* openRun(folder)
  const report = (interrupted: boolean) =>
    Effect.gen(function* () {
      const summary = yield* Summary.read(run, since)
      yield* progress.end
      if (options.json) {
        const { jobs, succeeded, failed, retries, bytes, ...rest } = summary
        const totals = { jobs, succeeded, failed, retries, bytes }
        yield* Console.log(JSON.stringify({ ...totals, ...rest, folder, broker: options.broker, resumed, interrupted }))
        return
      }
      const style = Show.styles(process.stdout)
      yield* Console.log(Summary.print(summary, folder, interrupted, style))
      yield* Console.log(style("dim", closingWords(options, interrupted)))
    })
  const workers = Layer.mergeAll(
    Worker.layer([IndexFile], { name: "worker 1", concurrency, shutdownGrace: "1 second" }),
    Worker.layer([IndexFile], { name: "worker 2", concurrency, shutdownGrace: "1 second" })
  ).pipe(Layer.provide(IndexFileLive))
  yield* Effect.gen(function* () {
    const how = `2 workers, broker ${options.broker}`
    yield* progress.phase(resumed ? `${how}, going on where the last run was stopped` : how)
    yield* enqueueFiles(run, folder, new Set([dataDir]))
    yield* progress.allFound
    yield* untilAllEnded
  }).pipe(
    Effect.onInterrupt(() => progress.phase("stopping")),
    Effect.provide(workers),
    // The workers are gone by now: what ran was finished or given back, so the numbers are final
    Effect.onInterrupt(() => report(true))
  )
  yield* report(false)
})

const closingWords = ({ dataDir, folder }: Options, interrupted: boolean) => {
  const kept = Option.getOrUndefined(dataDir)
  const again = [
    "npm start --",
    ...(folder === defaultFolder ? [] : [folder]),
    "--data-dir",
    kept ?? ".polyqueue"
  ].join(" ")
  if (kept === undefined) {
    return interrupted
      ? `The database was temporary. To be able to go on after a stop: ${again}`
      : `All of this was read from a temporary Postgres. To keep it: ${again}`
  }
  return interrupted ? `To go on: ${again}` : `All of this was read from Postgres, in ${kept}`
}

/** A new run, or the one of this folder that was stopped. */
const openRun = Effect.fnUntraced(function* (folder: string) {
  const sql = yield* SqlClient.SqlClient
  const queue = yield* Polyqueue
  const fresh = yield* queue.makeId
  const [row] = yield* sql<{ run: string | null; since: string }>`
    select clock_timestamp()::text as since, (
      select payload->>'run' from polyqueue.polyqueue_jobs
      where type = 'IndexFile' and status in ('queued', 'processing') and payload->>'root' = ${folder}
      order by id desc limit 1
    ) as run`
  return { run: row?.run ?? fresh, since: row?.since ?? "now", resumed: (row?.run ?? null) !== null }
})

const enqueueFiles = Effect.fnUntraced(function* (run: string, root: string, leaveOut: ReadonlySet<string>) {
  const batches = walk(root, batchSize, leaveOut)
  const next = Effect.tryPromise({
    try: () => batches.next(),
    catch: (cause) => new Refusal({ message: `${root} cannot be walked: ${String(cause)}` })
  })
  for (let batch = yield* next; batch.done !== true; batch = yield* next) {
    yield* IndexFile.enqueueAll(batch.value.map((file) => ({ run, root, ...file })))
  }
})

/** Jobs of earlier runs of other folders may be among those that are waited for: they are finished along the way. */
const untilAllEnded = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const someLeft = sql<{ left: boolean }>`
    select exists (select from polyqueue.polyqueue_jobs where status = 'queued')
      or exists (select from polyqueue.polyqueue_jobs where status = 'processing') as left`
  while ((yield* someLeft)[0]?.left === true) yield* Effect.sleep("100 millis")
})

const readableFolder = (given: string): Effect.Effect<string, Refusal> => {
  const path = resolve(here, given)
  const refuse = (why: string) => new Refusal({ message: `${Show.name(path)}: ${why}` })
  return Effect.tryPromise({
    try: async () => {
      const found = await stat(path)
      if (!found.isDirectory()) throw refuse("this is a file; give me a folder to index")
      await access(path, constants.R_OK | constants.X_OK)
      return realpathSync(path)
    },
    catch: (cause) => {
      if (cause instanceof Refusal) return cause
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined
      if (code === "ENOENT" || code === "ENOTDIR") return refuse("there is no such folder")
      if (code === "EACCES" || code === "EPERM") return refuse("no permission to read this folder")
      return refuse(`cannot be read: ${Cause.pretty(Cause.fail(cause))}`)
    }
  })
}

/** Asked before anything starts, so that a variable that is missing is one line. */
const reachableBroker = (broker: BrokerName): Effect.Effect<void, Refusal> => {
  const variable = needs[broker]
  return variable === undefined || (process.env[variable] ?? "") !== ""
    ? Effect.void
    : Effect.fail(new Refusal({ message: `--broker ${broker} needs to know where it is: set ${variable}` }))
}

/** The folder of the database: the named one, or one that goes with this process. A folder, so that memory stays flat. */
const databaseFolder = Effect.fnUntraced(function* ({ dataDir }: Options) {
  if (Option.isSome(dataDir)) return resolve(here, dataDir.value)
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.mapError(
    fs.makeTempDirectoryScoped({ prefix: "polyqueue-" }),
    (error) => new Refusal({ message: `no room for a temporary database: ${error.message}` })
  )
})
