-- Everything the registry knows. Times are seconds since 1970; prefixes are binary digits ('0000000000000101').

-- The one network whose prefixes these are, as its CA's serial number in hexadecimal.
CREATE TABLE network (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    serial TEXT NOT NULL
) STRICT;

-- The whole space of the network, prefix-free: each prefix is free (no serial) or given to a node.
CREATE TABLE prefix (
    bits TEXT NOT NULL PRIMARY KEY CHECK (length(bits) <= 120 AND bits NOT GLOB '*[^01]*'),
    serial TEXT UNIQUE,     -- the certificate's serial number, decimal
    email TEXT,
    certificate TEXT,       -- PEM
    issued REAL,
    CHECK ((serial IS NULL) = (certificate IS NULL))
) STRICT;

-- Makes allocation logarithmic: the longest free prefix that is short enough.
CREATE INDEX prefix_free ON prefix (length(bits) DESC, bits) WHERE serial IS NULL;

INSERT INTO prefix (bits) VALUES ('');

-- Only the hash is kept, so that a copy of this file lets nobody in.
CREATE TABLE token (
    hash BLOB NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    length INTEGER,         -- of the prefix it is good for; NULL: the registry's default
    created REAL NOT NULL
) STRICT;

CREATE INDEX token_created ON token (created);

-- Where nodes can be reached. The slots are 1 to n without a gap, so that a random choice is n look-ups.
CREATE TABLE peer (
    slot INTEGER PRIMARY KEY,
    bits TEXT NOT NULL UNIQUE REFERENCES prefix (bits) ON DELETE CASCADE,
    endpoints TEXT NOT NULL,
    declared REAL NOT NULL
) STRICT;

CREATE INDEX peer_declared ON peer (declared);
