/** An application that is its own `polyqueue` command. */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { TestConsole } from "effect/testing"
import * as PolyqueueCli from "../../src/cli/index.ts"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import { Worker } from "../../src/index.ts"
import { run } from "../support/Cli.ts"
import { Add } from "./modules/jobs.ts"

const Jobs = Worker.layer([Add]).pipe(Layer.provide(Add.toLayer(({ a, b }) => Effect.succeed(a + b))))

/** As in the documentation: it must compile. */
export const program: Effect.Effect<void, PolyqueueCli.CliFailure> = PolyqueueCli.run({
  version: "1.0.0",
  worker: Jobs.pipe(Layer.provide(PolyqueueConfig.layer))
})

const application = (worker: Layer.Layer<never, unknown>, ...args: ReadonlyArray<string>) =>
  PolyqueueCli.runWith({ version: "1.2.3", worker })(args).pipe(Effect.provide(NodeServices.layer))

describe("PolyqueueCli", () => {
  it.live("worker runs the application's layer until it is interrupted, and then releases it", () =>
    Effect.gen(function* () {
      const events: Array<string> = []
      const started = yield* Deferred.make<void>()
      const worker = Layer.effectDiscard(
        Effect.acquireRelease(
          Effect.andThen(
            Effect.sync(() => void events.push("started")),
            Deferred.succeed(started, undefined)
          ),
          () => Effect.sync(() => void events.push("released"))
        )
      )
      const fiber = yield* Effect.forkChild(application(worker, "worker"))
      yield* Deferred.await(started)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(events, ["started", "released"])
    })
  )

  it.live("shows the application's version", () =>
    Effect.gen(function* () {
      yield* application(Layer.empty, "--version")
      assert.deepStrictEqual(yield* TestConsole.logLines, ["polyqueue 1.2.3"])
    }).pipe(Effect.provide(Layer.fresh(TestConsole.layer)))
  )
})

describe("help", () => {
  const leaves = ["stats", "queues", "workers", "jobs", "job", "attempts", "audit"].map((name) => ["inspect", name])
  const actions = ["requeue", "fail", "cancel", "run-now", "purge", "pause", "resume", "drain", "undrain", "stop"]
  const commands: ReadonlyArray<ReadonlyArray<string>> = [
    ["worker"],
    ["migrate"],
    ...leaves,
    ["explain"],
    ["settings"],
    ["doctor"],
    ["bench"],
    ...actions.map((name) => ["admin", name]),
    ["admin", "concurrency"],
    ["enqueue"]
  ]

  it.live.each(commands.map((path) => path.join(" ")))("%s has a description, usage and examples", (path) =>
    Effect.gen(function* () {
      const { code, stdout } = yield* run([...path.split(" "), "--help"])
      assert.strictEqual(code, 0)
      assert.match(stdout, /^DESCRIPTION\n {2}[A-Z][^]+\.\n\nUSAGE\n {2}polyqueue /)
      assert.include(stdout, `\nEXAMPLES\n`)
      const description = stdout.slice(0, stdout.indexOf("USAGE")).split("\n")
      for (const line of description) assert.isAtMost(line.length, 100)
    })
  )

  it.live("of the groups, as it reads", () =>
    Effect.gen(function* () {
      for (const path of [[], ["inspect"], ["admin"]]) {
        expect((yield* run([...path, "--help"])).stdout).toMatchSnapshot(`polyqueue ${path.join(" ")}`.trim())
      }
    })
  )

  it.live("a group without a command shows its help, and needs no settings for that", () =>
    Effect.gen(function* () {
      for (const path of [[], ["inspect"], ["admin"]]) {
        const answer = yield* run(path)
        assert.strictEqual(answer.code, 0, answer.stderr)
        assert.strictEqual(answer.stdout, (yield* run([...path, "--help"])).stdout)
      }
    })
  )
})
