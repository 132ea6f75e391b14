/** The stream to a server, encrypted where wanted, which the driver then speaks through. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { connect as encrypt } from "node:tls";
import type { Attempt } from "./url.js";

const sslRequest = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);

/** Dials; a stream that the server closes then ends with an error, too. The signal cuts it. */
export async function dial(attempt: Attempt, signal: AbortSignal): Promise<Socket> {
  const { address, port, tls, timeout } = attempt;
  const path = address.startsWith("/") ? `${address}/.s.PGSQL.${port}` : undefined;
  const plain = guarded(connect({ ...(path ? { path } : { host: address, port }), signal }));
  const late = () => plain.destroy(failure("ETIMEDOUT", "the server does not answer in time"));
  const timer = timeout === 0 ? undefined : setTimeout(late, timeout * 1000);
  try {
    await once(plain, "connect");
    if (tls === undefined) return plain;
    if (!attempt.direct) await askForTls(plain);
    const protocols = attempt.direct ? { ALPNProtocols: ["postgresql"] } : {};
    const encrypted = guarded(encrypt({ ...tls, ...protocols, socket: plain }));
    await once(encrypted, "secureConnect");
    return encrypted;
  } catch (error) {
    plain.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** When the server just closes, the driver would dial again, and again at once. */
function guarded<T extends Socket>(socket: T): T {
  return socket
    .on("error", () => {})
    .on("end", () => socket.destroy(failure("ECONNRESET", "the server closed the connection")));
}

async function askForTls(socket: Socket): Promise<void> {
  socket.write(sslRequest);
  const [answer] = (await once(socket, "data")) as [Buffer];
  if (answer.toString("latin1") !== "S") {
    throw failure("NO_TLS", "The server does not support SSL connections");
  }
}

function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
