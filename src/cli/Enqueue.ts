/** `polyqueue enqueue <type>`: makes a job by hand. Its payload is checked by the worker that runs it, not here. */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { Broker } from "../Broker.ts"
import * as Backends from "../config/Backends.ts"
import { defaultPriority, defaultQueue } from "../JobPolicy.ts"
import { JobStore } from "../JobStore.ts"
import { Polyqueue } from "../Polyqueue.ts"
import * as Arguments from "./Arguments.ts"
import * as Deployment from "./Deployment.ts"
import { CliFailure, ExitCode, usage } from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Visible from "./Visible.ts"

/**
 * A client on the deployment's tables, with the defaults of its settings. It needs no broker's credentials: other backends
 * relay what it makes, within about a second. The bell of the Postgres broker is the database's, so it is rung in any case.
 */
const client = Layer.unwrap(
  Effect.map(Deployment.connection, ({ database, names, settings }) =>
    Layer.merge(
      Layer.provide(Polyqueue.layerWithoutBroker, JobStore.layerPostgresWith(names)),
      Broker.layerPostgres
    ).pipe(Layer.provide(database), Layer.provide(Backends.defaults(settings)))
  )
)

/** Wakes workers that wait for this queue. A bell that cannot be rung costs a second. */
const ring = (queue: string) =>
  Effect.flatMap(Broker, (broker) =>
    Effect.ignore(broker.publish([{ jobId: "", queue, priority: defaultPriority, attempt: 0, publication: 1 }]))
  )

const stdin = Effect.flatMap(Stdio.Stdio, (stdio) => Effect.orDie(stdio.stdin.pipe(Stream.decodeText, Stream.mkString)))

/** JSON from the argument itself, from `@file`, or from stdin (`-`). */
const readPayload = Effect.fnUntraced(function* (source: string) {
  const from = source === "-" ? "stdin" : source.startsWith("@") ? source.slice(1) : "--payload"
  const text =
    source === "-"
      ? yield* stdin
      : source.startsWith("@")
        ? yield* Effect.mapError(
            Effect.flatMap(FileSystem.FileSystem, (fileSystem) => fileSystem.readFileString(from)),
            (error) => usage(`the payload in ${from} cannot be read: ${error.message}`)
          )
        : source
  return yield* Effect.try({
    try: (): unknown => JSON.parse(text),
    // The parser's own message quotes the text, which may hold what nobody should see
    catch: () => usage(`the payload in ${from} is not JSON${text.trim() === "" ? ": it is empty" : ""}`)
  })
})

const number = (name: string, least: number, most: number, description: string) =>
  Flag.Int(name).pipe(
    Flag.filter(
      (value) => value >= least && value <= most,
      (value) => `Expected ${least} to ${most}, got ${value}`
    ),
    Flag.withDescription(description)
  )

const statusMessage = (status: string, code: string | undefined) =>
  `the job ended as ${status}${code === undefined ? "" : ` (${code})`}; see \`polyqueue inspect job\``

export const command = Command.make(
  "enqueue",
  {
    type: Argument.String("type").pipe(Argument.withDescription("Job type: the tag of the job in the code")),
    payload: Flag.String("payload").pipe(
      Flag.withAlias("p"),
      Flag.withMetavar("JSON|@FILE|-"),
      Flag.withDescription(
        "The payload as JSON: itself, from @file, or - for stdin (what is secret belongs into those)"
      ),
      Flag.withDefault("null")
    ),
    queue: Flag.String("queue").pipe(
      Flag.withAlias("q"),
      Flag.withDescription("Queue, `default` if left out: the job's own is known to the code only"),
      Flag.withDefault(defaultQueue)
    ),
    priority: number("priority", 0, 9, "0 runs first … 9 last; 5 if left out").pipe(Flag.withDefault(defaultPriority)),
    delay: Flag.String("delay").pipe(
      Flag.withMetavar("SPAN"),
      Flag.withDescription("Not before this long from now: 30s, 5m, 1h, 7d"),
      Flag.mapEffect((text) => Arguments.span("--delay", text)),
      Flag.withDefault(0)
    ),
    maxAttempts: number("max-attempts", 1, 2_147_483_647, "Attempts; the settings' default if left out").pipe(
      Flag.optional
    ),
    key: Flag.String("key").pipe(
      Flag.withDescription("Idempotency key: another job of this type with it is found instead of made"),
      Flag.optional
    ),
    id: Flag.String("id").pipe(
      Flag.withDescription("Job id (UUID): enqueueing again with it makes no second job"),
      Flag.mapEffect((text) => Arguments.jobId("id", text, "flag")),
      Flag.optional
    ),
    tags: Flag.String("tag").pipe(Flag.withDescription("A tag; may be given several times"), Flag.atLeast(0)),
    wait: Flag.Boolean("wait").pipe(
      Flag.withDescription("Wait until it has ended; exit code 1 unless it succeeded"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    output: Output.flag
  },
  Effect.fnUntraced(function* ({ delay, id, key, maxAttempts, output, payload, priority, queue, tags, type, wait }) {
    const value = yield* readPayload(payload)
    const polyqueue = yield* Polyqueue
    const made = yield* polyqueue.enqueue({
      id: Option.isSome(id) ? id.value : yield* polyqueue.makeId,
      freshId: Option.isNone(id),
      type,
      queue,
      priority,
      delay,
      runAt: undefined,
      payload: value,
      maxAttempts: Option.getOrUndefined(maxAttempts),
      retryDelays: undefined,
      timeout: undefined,
      timeoutThen: undefined,
      key: Option.getOrUndefined(key),
      keyScope: "retained",
      tags
    })
    if (!made.deduplicated) yield* ring(queue)
    if (!wait) {
      if (output !== "table")
        return yield* Output.printDocument(output, { id: made.id, deduplicated: made.deduplicated })
      if (made.deduplicated) yield* Output.note("a job with this key exists already")
      return yield* Console.log(made.id)
    }
    yield* Output.note(`waiting for ${made.id}`)
    const record = yield* polyqueue.ended(made.id)
    if (output === "table") yield* Console.log(`${made.id} ${record.status}`)
    else yield* Output.printDocument(output, { id: made.id, deduplicated: made.deduplicated, status: record.status })
    if (record.status !== "succeeded") {
      return yield* new CliFailure({
        code: ExitCode.failed,
        message: Visible.line(statusMessage(record.status, record.error?.code))
      })
    }
  })
).pipe(
  Command.validate(({ queue, type }) =>
    type.trim() === "" || queue.trim() === ""
      ? Effect.fail(new CliError.ValidationError({ message: "type and queue must not be empty" }))
      : Effect.void
  ),
  Command.withDescription(
    "Makes a job by hand and prints its id. Limits come from the settings, not from the job's definition; the payload is " +
      "checked by the worker. Workers hear of it at once with backend postgres, within about a second with the others."
  ),
  Command.withShortDescription("Make a job by hand"),
  Command.withExamples([
    { command: `polyqueue enqueue SendEmail --payload '{"to":"ada@example.com"}'` },
    { command: "polyqueue enqueue Import --payload @import.json --queue import --delay 5m" },
    { command: "jq -c .payload job.json | polyqueue enqueue SendEmail --payload - --wait" }
  ]),
  Command.provide(client)
)
