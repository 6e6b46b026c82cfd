import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, Scope } from "effect"
import { spawnSync } from "node:child_process"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as FolderLock from "../../../src/store/pglite/FolderLock.ts"

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "polyqueue-lock-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
)

const filesIn = (folder: string) => Effect.promise(() => readdir(folder))
const lockIn = (folder: string, number: number) => join(folder, `polyqueue-${number}.lock`)

it.live("one owner at a time, until its scope closes; what is left behind does not grow", () =>
  Effect.gen(function* () {
    const folder = join(yield* temporaryFolder, "made", "on", "demand")
    const scope = yield* Scope.make()
    yield* Scope.provide(FolderLock.acquire(folder), scope)
    const error = yield* Effect.flip(Effect.scoped(FolderLock.acquire(folder)))
    assert.strictEqual(error.reason, "Unavailable")
    assert.include(error.message, `process ${process.pid}`)
    assert.deepStrictEqual(yield* filesIn(folder), ["polyqueue-1.lock"])
    yield* Scope.close(scope, Exit.void)
    for (let n = 0; n < 12; n++) yield* Effect.scoped(FolderLock.acquire(folder))
    assert.deepStrictEqual(yield* filesIn(folder), ["polyqueue-13.lock"])
  })
)

it.live("a stale lock is taken over: of a dead process, of an id that was given again, half written", () =>
  Effect.gen(function* () {
    const folder = yield* temporaryFolder
    const dead = spawnSync(process.execPath, ["--version"]).pid
    const locks = [
      JSON.stringify({ token: "gone", pid: dead, startedAt: "1" }),
      JSON.stringify({ token: "gone", pid: process.pid, startedAt: "not when this process started" }),
      "{ half a fi"
    ]
    for (const [index, lock] of locks.entries()) {
      yield* Effect.promise(() => writeFile(lockIn(folder, index * 2 + 1), lock))
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* FolderLock.acquire(folder)
          const now = yield* Effect.promise(() => readFile(lockIn(folder, index * 2 + 2), "utf8"))
          assert.strictEqual(JSON.parse(now).pid, process.pid)
          assert.notStrictEqual(now, lock)
        })
      )
    }
  })
)

it.live("of many that want a stale lock only one at a time gets it", () =>
  Effect.gen(function* () {
    for (let round = 0; round < 20; round++) {
      const folder = yield* temporaryFolder
      yield* Effect.promise(() => writeFile(lockIn(folder, 7), "stale"))
      let owners = 0
      const own = Effect.gen(function* () {
        yield* FolderLock.acquire(folder)
        assert.strictEqual(++owners, 1)
        yield* Effect.yieldNow
        owners--
      })
      const exits = yield* Effect.forEach(Array.from({ length: 12 }), () => Effect.exit(Effect.scoped(own)), {
        concurrency: "unbounded"
      })
      assert.isTrue(exits.some(Exit.isSuccess))
      assert.isTrue(exits.every((exit) => Exit.isSuccess(exit) || !Cause.hasDies(exit.cause)))
    }
  })
)

it.live("a folder that cannot be used is Denied", () =>
  Effect.gen(function* () {
    const file = join(yield* temporaryFolder, "file")
    yield* Effect.promise(() => writeFile(file, ""))
    const error = yield* Effect.flip(Effect.scoped(FolderLock.acquire(join(file, "below"))))
    assert.strictEqual(error.reason, "Denied")
    assert.include(error.message, file)
  })
)
