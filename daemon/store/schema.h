/* Tables of the database and how older ones become this version's. */
#ifndef DAEMON_STORE_SCHEMA_H
#define DAEMON_STORE_SCHEMA_H

#include <sqlite3.h>
#include <stddef.h>

enum { SCHEMA_VERSION = 2 };

/* Brings db from its user_version to SCHEMA_VERSION, each step one transaction. SQLITE_OK;
 * SQLITE_SCHEMA for a database newer than this program; or what SQLite answered. */
int schema_migrate(sqlite3 *db);
/* SQLITE_OK when db has a version whose ledger this program reads; SQLITE_SCHEMA otherwise. Changes
 * nothing. */
int schema_check(sqlite3 *db);

#endif
