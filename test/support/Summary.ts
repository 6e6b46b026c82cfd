/**
 * A reporter for people and for machines: what was skipped and why, contract tests per broker, and as the very last line of
 * the run `N passed, N failed, N skipped`. Files that do not load and errors nobody caught count as failed.
 */
import { writeSync } from "node:fs"
import type { Reporter, TestModule } from "vitest/node"
import { contractLines } from "./ContractCount.ts"

declare module "vitest" {
  interface TaskMeta {
    /** Why a suite is skipped, and what it needs. */
    skipped?: string
  }
}

export default class Summary implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>, unhandled: ReadonlyArray<unknown>): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 }
    const reasons = new Map<string, Array<string>>()
    for (const module of modules) {
      count.failed += module.errors().length
      for (const suite of module.children.allSuites()) count.failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const result = test.result()
        // Still pending: the run was stopped before it
        count[result.state === "pending" ? "skipped" : result.state]++
        if (result.state !== "skipped") continue
        const reason =
          result.note ??
          test.meta().skipped ??
          (module.state() === "failed" ? "its file failed" : "no reason given: see the file")
        const group = reasons.get(reason)
        const name = `${module.relativeModuleId} > ${test.fullName}`
        if (group === undefined) reasons.set(reason, [name])
        else group.push(name)
      }
    }
    const contracts = contractLines(modules)
    // At exit, so that no other reporter and no teardown writes below it
    process.once("exit", () => {
      for (const [reason, names] of reasons) {
        writeSync(1, `\nSkipped ${names.length}: ${reason}\n${names.map((name) => `  ${name}\n`).join("")}`)
      }
      writeSync(1, contracts.map((line) => `\n${line}`).join(""))
      writeSync(1, `\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped\n`)
    })
  }
}
