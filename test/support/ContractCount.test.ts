import { fileURLToPath } from "node:url"
import { assert, it } from "vitest"
import { run } from "./Child.ts"

it("a run says how many contract tests it executed and skipped per broker", async (test) => {
  const vitest = fileURLToPath(new URL("../../node_modules/vitest/vitest.mjs", import.meta.url))
  const root = fileURLToPath(new URL("../..", import.meta.url))
  const args = [vitest, "run", "--root", root, "test/broker/MemoryBroker.test.ts", "test/broker/RedisBroker.test.ts"]
  // Suites that need a Redis of their own find none
  const { stdout } = await run(test, args, { PATH: "", REDIS_SERVER: "", POLYQUEUE_TEST_REDIS_URL: "" })
  const lines = stdout.split("\n").filter((line) => line.startsWith("contract of "))
  assert.match(lines[0] ?? "", /^contract of memory: [1-9]\d* executed, 0 skipped$/)
  assert.match(lines.find((line) => line.includes("redis")) ?? "", /^contract of redis: 0 executed, [1-9]\d* skipped$/)
  assert.include(lines, "contract of sqs: 0 executed, 0 skipped")
  assert.lengthOf(lines, 6)
})
