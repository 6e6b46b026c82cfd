/** At a terminal: questions, redrawing in place, progress. Without one: none of it. */
import { assert, describe, it } from "@effect/vitest"
import { NodeServices } from "@effect/platform-node"
import { Effect, Exit, Fiber, Layer, Option, Queue, Sink, Stdio, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { TestClock, TestConsole } from "effect/testing"
import * as Confirm from "../../src/cli/Confirm.ts"
import { CliFailure } from "../../src/cli/Failure.ts"
import * as ProgressLine from "../../src/cli/ProgressLine.ts"
import * as Watch from "../../src/cli/Watch.ts"

/** A terminal with these keys pressed, and all that is drawn on it. */
const terminal = (keys: ReadonlyArray<string>, drawn: Array<string>, rows = 50) =>
  Layer.effect(
    Terminal.Terminal,
    Effect.gen(function* () {
      const input = yield* Queue.unbounded<Terminal.UserInput>()
      for (const name of keys) {
        yield* Queue.offer(input, {
          input: name.length === 1 ? Option.some(name) : Option.none(),
          key: { name, ctrl: false, meta: false, shift: false }
        })
      }
      return Terminal.make({
        columns: Effect.succeed(80),
        rows: Effect.succeed(rows),
        size: Effect.die("unused"),
        readInput: Effect.succeed(input as never),
        readLine: Effect.die("unused"),
        display: (text) => Effect.sync(() => void drawn.push(text))
      })
    })
  )

const capable = { canAnimate: true, canColor: true, canPrompt: true }

const stdio = (written: Array<string>, isTerminal: boolean) =>
  Stdio.layerTest({
    stdoutIsTerminal: Effect.succeed(isTerminal),
    stderrIsTerminal: Effect.succeed(isTerminal),
    stderr: () => Sink.forEach((text) => Effect.sync(() => void written.push(String(text))))
  })

describe("a question", () => {
  const ask = (yes: boolean, keys: ReadonlyArray<string>, canPrompt = true) =>
    Effect.exit(Confirm.confirm(yes, "5 jobs would be deleted.")).pipe(
      Effect.provide(terminal(keys, [])),
      Effect.provide(NodeServices.layer),
      Effect.provideService(TerminalCapabilities.TerminalCapabilities, { ...capable, canPrompt })
    )
  const codeOf = (exit: Exit.Exit<void, unknown>) => {
    const error = Exit.isFailure(exit) ? exit.cause.reasons[0] : undefined
    return error?._tag === "Fail" && error.error instanceof CliFailure ? error.error.code : undefined
  }

  it.effect("goes on after a yes, and ends as refused after a no", () =>
    Effect.gen(function* () {
      assert.isTrue(Exit.isSuccess(yield* ask(false, ["y"])))
      assert.strictEqual(codeOf(yield* ask(false, ["n"])), 4)
      assert.strictEqual(codeOf(yield* ask(false, ["return"])), 4, "no is what happens without a word")
    })
  )

  it.effect("is not asked with --yes, and refused where nobody can answer", () =>
    Effect.gen(function* () {
      assert.isTrue(Exit.isSuccess(yield* ask(true, [], false)))
      assert.strictEqual(codeOf(yield* ask(false, ["y"], false)), 4)
    })
  )
})

describe("--watch", () => {
  const look = (looks: { count: number }) => () =>
    Effect.sync(() => [`look ${++looks.count}`, "second line", "third line"])

  it.effect("redraws in place on a terminal, never more than fits", () =>
    Effect.gen(function* () {
      const drawn: Array<string> = []
      const fiber = yield* Effect.forkChild(
        Watch.run(Option.some(1_000), "table", look({ count: 0 })).pipe(
          Effect.provide(Layer.mergeAll(terminal([], drawn, 3), stdio([], true))),
          Effect.provideService(TerminalCapabilities.TerminalCapabilities, capable)
        )
      )
      yield* TestClock.adjust("2500 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(drawn, [
        "\u001b[2J\u001b[H",
        ...[1, 2, 3].map((n) => `\u001b[Hlook ${n}\u001b[K\nsecond line\u001b[K\n\u001b[J`)
      ])
    })
  )

  it.effect("writes one look below the other elsewhere", () =>
    Effect.gen(function* () {
      const drawn: Array<string> = []
      const fiber = yield* Effect.forkChild(
        Watch.run(Option.some(1_000), "table", look({ count: 0 })).pipe(
          Effect.provide(Layer.mergeAll(terminal([], drawn), stdio([], false))),
          Effect.provideService(TerminalCapabilities.TerminalCapabilities, { ...capable, canAnimate: false })
        )
      )
      yield* TestClock.adjust("1500 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(drawn, [])
      assert.deepStrictEqual(yield* TestConsole.logLines, [
        "look 1\nsecond line\nthird line\n",
        "look 2\nsecond line\nthird line\n"
      ])
    }).pipe(Effect.provide(Layer.fresh(TestConsole.layer)))
  )
})

describe("progress", () => {
  const report = (written: Array<string>, isTerminal: boolean) =>
    Effect.gen(function* () {
      const line = yield* ProgressLine.make
      for (let n = 0; n < 5; n++) {
        yield* line.show(`${n} done\n`)
        yield* TestClock.adjust("60 millis")
      }
      yield* line.clear
    }).pipe(
      Effect.provide(stdio(written, isTerminal)),
      Effect.provideService(TerminalCapabilities.TerminalCapabilities, capable)
    )

  it.effect("rewrites one line of stderr, at most ten times a second, and removes it", () =>
    Effect.gen(function* () {
      const written: Array<string> = []
      yield* report(written, true)
      assert.deepStrictEqual(written, [
        "\r0 done\\n\u001b[K",
        "\r2 done\\n\u001b[K",
        "\r4 done\\n\u001b[K",
        "\r\u001b[K"
      ])
    })
  )

  it.effect("is silent where stderr is no terminal", () =>
    Effect.gen(function* () {
      const written: Array<string> = []
      yield* report(written, false)
      assert.deepStrictEqual(written, [])
    })
  )
})
