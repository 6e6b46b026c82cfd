/** `admin drain|stop|undrain|concurrency`: control of running workers, through Postgres, whatever the broker. */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Admin } from "../../Admin.ts"
import type { WorkerRecord } from "../../registry/WorkerRegistryDriver.ts"
import * as By from "../By.ts"
import * as Confirm from "../Confirm.ts"
import { nothing } from "../Failure.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as Visible from "../Visible.ts"
import * as WorkerView from "../views/WorkerView.ts"

const workers = Argument.String("worker").pipe(
  Argument.withDescription("Worker id, the beginning of one, or a worker's name"),
  Argument.variadic({ min: 1 })
)

const isLive = ({ status }: WorkerRecord): boolean => status === "running" || status === "draining"

/** The live workers that a word means: by id, by the beginning of an id (if only one has it), or all of that name. */
const find = Effect.fnUntraced(function* (words: ReadonlyArray<string>) {
  const all = (yield* (yield* Admin).workers).filter(isLive)
  const found = new Map<string, WorkerRecord>()
  for (const word of words) {
    const exact = all.filter(({ id, name }) => id === word || name === word)
    const matching = exact.length > 0 ? exact : all.filter(({ id }) => word.length >= 4 && id.startsWith(word))
    if (matching.length === 0)
      return yield* nothing(`no live worker ${JSON.stringify(word)}; see \`polyqueue inspect workers\``)
    if (exact.length === 0 && matching.length > 1) {
      return yield* new CliError.InvalidValue({
        option: "worker",
        value: word,
        expected: `more of the id: ${matching.length} workers begin like this`,
        kind: "argument"
      })
    }
    for (const worker of matching) found.set(worker.id, worker)
  }
  return [...found.values()]
})

const show = Effect.fnUntraced(function* (rows: ReadonlyArray<WorkerRecord>, output: Output.Format, said: string) {
  const now = yield* yield* StoreNow
  yield* Output.print(
    Output.linesOf(
      output,
      {
        kind: "workers",
        rows,
        columns: WorkerView.columns(now),
        toJson: WorkerView.toJson,
        empty: "no live worker of this name: those that start later will hear of it"
      },
      yield* Output.screen
    )
  )
  if (output === "table" && rows.length > 0) yield* Console.log(`\n${said}`)
})

const plural = (count: number): string => `${count} ${count === 1 ? "worker" : "workers"}`
const whenHeard = "heard at the next heartbeat (15 s by default)"

export const drain = Command.make(
  "drain",
  { workers, ...By.flags, output: Output.flag },
  Effect.fnUntraced(function* ({ as, output, reason, workers }) {
    const admin = yield* Admin
    const asked = yield* Effect.forEach(yield* find(workers), ({ id }) =>
      admin.drainWorker(id, By.toBy({ as, reason }))
    )
    yield* show(asked, output, `${plural(asked.length)} asked to drain; ${whenHeard}`)
  })
).pipe(
  Command.withDescription(
    "The worker claims nothing new and lets running jobs finish, however long they take. `undrain` takes it back."
  ),
  Command.withShortDescription("Let a worker finish what it runs, and take nothing new"),
  Command.withExamples([{ command: "polyqueue admin drain worker-7 --reason 'node is being replaced'" }])
)

export const undrain = Command.make(
  "undrain",
  { workers, ...By.flags, output: Output.flag },
  Effect.fnUntraced(function* ({ as, output, reason, workers }) {
    const admin = yield* Admin
    const asked = yield* Effect.forEach(yield* find(workers), ({ id }) =>
      admin.resumeWorker(id, By.toBy({ as, reason }))
    )
    yield* show(asked, output, `${plural(asked.length)} asked to go on; ${whenHeard}`)
  })
).pipe(
  Command.withDescription("Takes a drain back, as long as the worker has not stopped."),
  Command.withShortDescription("Take a drain back"),
  Command.withExamples([{ command: "polyqueue admin undrain worker-7" }])
)

export const stop = Command.make(
  "stop",
  { workers, yes: Confirm.yes, ...By.flags, output: Output.flag },
  Effect.fnUntraced(function* ({ as, output, reason, workers, yes }) {
    const admin = yield* Admin
    const found = yield* find(workers)
    yield* Confirm.confirm(
      yes,
      `${plural(found.length)} will stop for good: ${found.map(({ name }) => Visible.line(name)).join(", ")}.`
    )
    const asked = yield* Effect.forEach(found, ({ id }) => admin.stopWorker(id, By.toBy({ as, reason })))
    yield* show(asked, output, `${plural(asked.length)} asked to stop; ${whenHeard}`)
  })
).pipe(
  Command.withDescription(
    "The worker drains, interrupts after its grace, gives its jobs back and says goodbye, as when its process is told to end. " +
      "Cannot be taken back. A `polyqueue worker` process ends with its last worker; what supervises it may start another."
  ),
  Command.withShortDescription("Stop a worker"),
  Command.withExamples([{ command: "polyqueue admin stop 01890a5d --yes" }])
)

export const concurrency = Command.make(
  "concurrency",
  {
    name: Argument.String("name").pipe(Argument.withDescription("Name of the workers")),
    value: Argument.String("jobs").pipe(
      Argument.withDescription("Jobs run at once, 0 to 10000; `default` gives the code's own number back"),
      Argument.mapEffect((text) => {
        if (text === "default") return Effect.succeed(undefined)
        const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
        return value >= 0 && value <= 10_000
          ? Effect.succeed(value)
          : Effect.fail(
              new CliError.InvalidValue({
                option: "jobs",
                value: text,
                expected: "0 to 10000, or default",
                kind: "argument"
              })
            )
      })
    ),
    queue: Flag.String("queue").pipe(
      Flag.withAlias("q"),
      Flag.withDescription("Only of the slots for this queue, where the worker has such"),
      Flag.optional
    ),
    ...By.flags,
    output: Output.flag
  },
  Effect.fnUntraced(function* ({ as, name, output, queue, reason, value }) {
    const admin = yield* Admin
    const hearing = yield* admin.setConcurrency(name, value, {
      ...By.toBy({ as, reason }),
      queue: Option.getOrUndefined(queue)
    })
    const said = value === undefined ? "goes back to the number in the code" : `${value} at once`
    yield* show(hearing, output, `concurrency: ${said}; ${whenHeard}, and by workers of this name that start later`)
  })
).pipe(
  Command.withDescription(
    "Changes how many jobs the workers of a name run at once, live, and for those that start later."
  ),
  Command.withShortDescription("Change how many jobs workers run at once"),
  Command.withExamples([
    { command: "polyqueue admin concurrency mailer 2 --queue mail --reason 'rate limit'" },
    { command: "polyqueue admin concurrency mailer default" }
  ])
)
