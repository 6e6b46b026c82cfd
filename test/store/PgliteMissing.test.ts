import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { vi } from "vitest"
import * as Pglite from "../../src/store/Pglite.ts"

// As when the optional peer is not installed
vi.mock("@electric-sql/pglite", () => {
  throw Object.assign(new Error("Cannot find package '@electric-sql/pglite'"), { code: "ERR_MODULE_NOT_FOUND" })
})

it.live("without @electric-sql/pglite the layer fails with Unsupported and says how to install it", () =>
  Effect.gen(function* () {
    const error = yield* Effect.flip(Effect.scoped(Layer.build(Pglite.layer())))
    assert.strictEqual(error.reason, "Unsupported")
    assert.include(error.message, "npm install @electric-sql/pglite")
  })
)
