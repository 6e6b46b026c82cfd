/**
 * Who is alive, what they run and can decode. For people, for maintenance and for control; ownership of jobs is the
 * store's alone, so a registry that is down or wrong costs information, never a job.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { SqlClient } from "effect/sql/SqlClient"
import type { StoreError } from "./JobError.ts"
import * as MemoryWorkerRegistry from "./registry/MemoryWorkerRegistry.ts"
import * as PostgresWorkerRegistry from "./registry/PostgresWorkerRegistry.ts"
import type { WorkerRegistryDriver } from "./registry/WorkerRegistryDriver.ts"

export type * from "./registry/WorkerRegistryDriver.ts"

/** The port. */
export class WorkerRegistry extends Context.Service<WorkerRegistry, WorkerRegistryDriver>()(
  "polyqueue/WorkerRegistry"
) {
  /** In this process, on Effect's `Clock`. */
  static readonly layerMemory: Layer.Layer<WorkerRegistry> = Layer.effect(WorkerRegistry, MemoryWorkerRegistry.make)

  /** On Postgres, in schema and prefix `polyqueue`, on the database's clock. */
  static readonly layerPostgres: Layer.Layer<WorkerRegistry, StoreError, SqlClient> = WorkerRegistry.layerPostgresWith(
    {}
  )

  /** The same with another schema or prefix. */
  static layerPostgresWith(
    options: PostgresWorkerRegistry.Options
  ): Layer.Layer<WorkerRegistry, StoreError, SqlClient> {
    return Layer.effect(WorkerRegistry, PostgresWorkerRegistry.make(options))
  }
}
