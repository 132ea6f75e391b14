/** Sessions that keep a transaction open while others go on. */
import type { Sql } from "../support/client.js";
import { connect } from "../support/database.js";

export type Isolation = "read committed" | "repeatable read" | "serializable";

/** One connection, which never waits for a lock longer than 200 ms and tells of every warning. */
export interface Session {
  sql: Sql;
  warnings: string[];
  run(statement: string): Promise<unknown>;
  end(): Promise<void>;
}

/** A new session, in a transaction of that isolation level if one is named. */
export async function session(isolation?: Isolation): Promise<Session> {
  const warnings: string[] = [];
  const sql = connect({
    settings: { lock_timeout: "200ms" },
    onNotice: ({ severity, message }) => {
      if (severity === "WARNING") warnings.push(String(message));
    },
  });
  const opened: Session = {
    sql,
    warnings,
    run: (statement) => sql.unsafe(statement),
    end: () => sql.end({ timeout: 1 }),
  };
  if (isolation !== undefined) await opened.run(`begin isolation level ${isolation}`);
  return opened;
}

/** Runs something with sessions that are closed in the end, whatever happens. */
export async function withSessions<const T extends readonly (Isolation | undefined)[]>(
  wanted: T,
  work: (...sessions: { -readonly [K in keyof T]: Session }) => Promise<unknown>,
): Promise<void> {
  const sessions = await Promise.all(wanted.map(session));
  try {
    await work(...(sessions as { -readonly [K in keyof T]: Session }));
  } finally {
    await Promise.all(sessions.map((opened) => opened.end()));
  }
}

/** The text of a statement that inserts an event. */
export function event(account: number, more: Record<string, string | number | null> = {}): string {
  const row = {
    name: "conversation_bot_handoff",
    value: 2,
    account_id: account,
    user_id: 7,
    inbox_id: 3,
    conversation_id: 1,
    created_at: "2026-02-11 12:00:00",
    ...more,
  };
  const values = Object.values(row).map((value) => (value === null ? "null" : `'${value}'`));
  return `insert into public.reporting_events (${Object.keys(row).join(", ")}) values (${values.join(", ")})`;
}
