/**
 * One PostgreSQL server for the whole test run: `POLYQUEUE_TEST_DB_URL` if it is set, else a private one. Where neither
 * can be had, the suites that need one are skipped, and one line says why.
 */
import type { TestProject } from "vitest/node"
import { NoPostgres, startServer } from "./PostgresServer.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** Of a superuser; the empty string when there is no server. */
    readonly postgresUrl: string
  }
}

export default async (project: TestProject): Promise<(() => Promise<void>) | undefined> => {
  const given = process.env["POLYQUEUE_TEST_DB_URL"]
  if (given !== undefined && given !== "") {
    project.provide("postgresUrl", given)
    return undefined
  }
  try {
    const server = await startServer()
    project.provide("postgresUrl", server.url)
    return server.destroy
  } catch (error) {
    if (!(error instanceof NoPostgres)) throw error
    console.warn(`PostgreSQL suites are skipped: ${error.message}`)
    project.provide("postgresUrl", "")
    return undefined
  }
}
