-- Version 3: a database may be made anew for one that is lost.

ALTER TABLE revocation ADD COLUMN
    spares INTEGER NOT NULL DEFAULT 0;   -- 1: a list said that the node goes on with another certificate

-- One row where another database, now lost, has given prefixes that this one may not know.
CREATE TABLE lost (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    until REAL,         -- certificates issued up to then are taken in again; NULL: none is
    room TEXT           -- new prefixes begin with these digits; NULL: to be chosen
) STRICT;

INSERT INTO audit (at, what, subject, by)
    VALUES ((julianday('now') - 2440587.5) * 86400, 'upgraded', 'the database to version 3', 'registry');
