/** Worker processes: started, listened to, hurt, and ended with the scope. */
import { type ChildProcess, spawn as spawnChild } from "node:child_process"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import type { Readable } from "node:stream"
import { fileURLToPath } from "node:url"
import type { Line } from "./Report.ts"

export interface Exited {
  readonly code: number | null
  readonly signal: string | null
}

export interface Started {
  readonly child: ChildProcess
  readonly pid: number
  /** Resolves when it works; rejects when it ends before that. */
  readonly ready: Promise<void>
  readonly exited: Promise<Exited>
  /** The end of what it logged. */
  readonly log: () => string
}

const kept = 8_000

/** Starts a program of this folder. `imports`: modules that Node loads before it. */
export const start = (
  script: string,
  env: Readonly<Record<string, string>>,
  heard: (line: Line, pid: number) => void,
  imports: ReadonlyArray<string> = []
): Started => {
  const path = (file: string) => fileURLToPath(new URL(file, import.meta.url))
  const child = spawnChild(process.execPath, [...imports.flatMap((file) => ["--import", path(file)]), path(script)], {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    env: { ...process.env, NODE_COMPILE_CACHE: join(tmpdir(), "polyqueue-chaos-cache"), NO_COLOR: "1", ...env }
  })
  const pid = child.pid ?? -1
  let log = ""
  const keep = (chunk: Buffer) => (log = (log + String(chunk)).slice(-kept))
  child.stdout?.on("data", keep)
  child.stderr?.on("data", keep)
  const exited = new Promise<Exited>((resolve) => child.once("close", (code, signal) => resolve({ code, signal })))
  const ready = new Promise<void>((resolve, reject) => {
    createInterface(child.stdio[3] as Readable).on("line", (text) => {
      const line: Line = JSON.parse(text)
      if (line.t === "ready") resolve()
      else heard(line, pid)
    })
    void exited.then(() => reject(new Error(`it ended before it was ready:\n${log}`)))
  })
  ready.catch(() => undefined)
  return { child, pid, ready, exited, log: () => log }
}
