/**
 * Programs of this repository as child processes, for tests of what a person sees: output, exit code, signals.
 */
import { spawn, type ChildProcessByStdio } from "node:child_process"
import { once } from "node:events"
import type { Readable } from "node:stream"
import type { TestContext } from "vitest"

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Child {
  readonly process: ChildProcessByStdio<null, Readable, Readable>
  /** Resolves when what was written to one of the streams matches; rejects when the program ends before that. */
  readonly says: (pattern: RegExp) => Promise<void>
  readonly ended: Promise<Ended>
}

/** The context of a test: the ambient one is not the test's own when tests run side by side. */
type Cleanup = Pick<TestContext, "onTestFinished">

/** Starts the Node of this process; killed when the test is over, if it still runs. */
export const start = (
  { onTestFinished }: Cleanup,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Child => {
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined, ...env }
  })
  onTestFinished(() => void child.kill("SIGKILL"))
  let stdout = ""
  let stderr = ""
  let heard = () => {}
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text
    heard()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text
    heard()
  })
  const ended = once(child, "close").then(([code]): Ended => ({ code, stdout, stderr }))
  return {
    process: child,
    ended,
    says: (pattern) =>
      new Promise((resolve, reject) => {
        heard = () => {
          if (pattern.test(stdout) || pattern.test(stderr)) resolve()
        }
        heard()
        void ended.then(() => reject(new Error(`it ended without saying ${pattern}:\n${stdout}${stderr}`)))
      })
  }
}

/** Runs a program to its end. */
export const run = (
  test: Cleanup,
  args: ReadonlyArray<string>,
  env?: Readonly<Record<string, string>>
): Promise<Ended> => start(test, args, env).ended
