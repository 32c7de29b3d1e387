-- The peers a node knows. Times are seconds since 1970; prefixes are binary digits.

-- The one network whose peers these are, as its CA's serial number in hexadecimal.
CREATE TABLE network (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    serial TEXT NOT NULL
) STRICT;

CREATE TABLE peer (
    bits TEXT NOT NULL PRIMARY KEY CHECK (length(bits) <= 120 AND bits NOT GLOB '*[^01]*'),
    endpoints TEXT NOT NULL,                -- address,port,proto;…
    last_seen REAL NOT NULL,                -- when the registry last named it
    failures INTEGER NOT NULL DEFAULT 0,    -- in a row
    next_try REAL NOT NULL DEFAULT 0,       -- not before
    last_success REAL                       -- when a tunnel to it last came up
) STRICT, WITHOUT ROWID;

CREATE INDEX peer_next_try ON peer (next_try);

-- The most useful first.
CREATE INDEX peer_usefulness ON peer (failures, last_seen DESC);
