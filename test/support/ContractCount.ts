/**
 * Counts the tests of the broker contract per broker, from what a run collected: one line each, which `.ci/run` reads. A
 * suite is known by its first test, which every contract suite has.
 */
import type { TestModule, TestSuite } from "vitest/node"

/** What is run on every broker, whatever it can do. */
const MARK = "declares what the suite was told: its capabilities and hooks"

const brokers: Readonly<Record<string, string>> = {
  memory: "MemoryBroker",
  postgres: "PostgresBroker",
  redis: "RedisBroker",
  sqs: "SqsBroker",
  "service-bus": "ServiceBusBroker",
  pgmq: "PgmqBroker"
}

/** `contract of redis: 60 executed, 0 skipped`; nothing for a run that collected no contract suite at all. */
export const contractLines = (modules: ReadonlyArray<TestModule>): ReadonlyArray<string> => {
  const suites = modules.flatMap((module) => Array.from(module.children.allSuites())).filter(isContract)
  if (suites.length === 0) return []
  return Object.entries(brokers).map(([broker, name]) => {
    const own = suites.filter((suite) => suite.name === name || new RegExp(`^${name}[ ,]`).test(suite.name))
    const states = own.flatMap((suite) => Array.from(suite.children.tests(), (test) => test.result().state))
    const executed = states.filter((state) => state === "passed" || state === "failed").length
    return `contract of ${broker}: ${executed} executed, ${states.length - executed} skipped`
  })
}

const isContract = (suite: TestSuite): boolean => Array.from(suite.children.tests()).some(({ name }) => name === MARK)
