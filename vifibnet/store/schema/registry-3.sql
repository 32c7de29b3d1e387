-- Everything the registry knows. Times are seconds since 1970; prefixes are binary digits ('0101').

-- The one network whose prefixes these are, as its CA's serial number in hexadecimal.
CREATE TABLE network (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    serial TEXT NOT NULL
) STRICT;

-- The whole space of the network, prefix-free: each prefix is free (no serial), a node's, or released: that
-- is nobody's any more, but not free before the last certificate for it has expired.
CREATE TABLE prefix (
    bits TEXT NOT NULL PRIMARY KEY CHECK (length(bits) <= 120 AND bits NOT GLOB '*[^01]*'),
    -- The newest certificate's.
    serial TEXT UNIQUE REFERENCES certificate (serial) DEFERRABLE INITIALLY DEFERRED,
    email TEXT,         -- NULL: joined by an invitation for nobody in particular
    joined REAL,        -- when the prefix was given
    expires REAL,       -- when the last of its certificates does
    last_seen REAL,     -- when the node last spoke to the registry
    released REAL,      -- when it was taken from the node
    CHECK ((serial IS NULL) = (joined IS NULL) AND (serial IS NULL) = (expires IS NULL)),
    CHECK (serial IS NOT NULL OR (email IS NULL AND last_seen IS NULL AND released IS NULL))
) STRICT;

-- Makes allocation logarithmic: the longest free prefix that is short enough.
CREATE INDEX prefix_free ON prefix (length(bits) DESC, bits) WHERE serial IS NULL;

CREATE INDEX prefix_given ON prefix (bits) WHERE serial IS NOT NULL;

CREATE INDEX prefix_expires ON prefix (expires) WHERE serial IS NOT NULL;

CREATE INDEX prefix_released ON prefix (expires) WHERE released IS NOT NULL;

-- All certificates of all prefixes that are not free, also those that were renewed, revoked or have expired.
CREATE TABLE certificate (
    serial TEXT NOT NULL PRIMARY KEY,   -- decimal
    bits TEXT NOT NULL REFERENCES prefix (bits) ON DELETE CASCADE,
    pem TEXT NOT NULL,
    subject TEXT NOT NULL,              -- as in RFC 4514
    key_hash BLOB NOT NULL,             -- SHA-256 of the public key (SubjectPublicKeyInfo, DER)
    issued REAL NOT NULL,
    not_after REAL NOT NULL
) STRICT;

CREATE INDEX certificate_bits ON certificate (bits, issued);

-- Certificates that no longer count. The greatest number is the version of the revocation list. A number is
-- the time or, if that is not greater than the last one, the next: so a registry that was restored from an
-- old backup goes on with numbers that no node has seen. The last one is never removed.
CREATE TABLE revocation (
    number INTEGER PRIMARY KEY,
    serial TEXT NOT NULL UNIQUE,        -- decimal
    bits TEXT NOT NULL,
    revoked REAL NOT NULL,
    not_after REAL NOT NULL,            -- the certificate's; the list may forget it afterwards
    reason TEXT NOT NULL DEFAULT '',
    spares INTEGER NOT NULL DEFAULT 0   -- 1: a list said that the node goes on with another certificate
) STRICT;

CREATE INDEX revocation_not_after ON revocation (not_after);

-- One row where another database, now lost, has given prefixes that this one may not know.
CREATE TABLE lost (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    until REAL,         -- certificates issued up to then are taken in again; NULL: none is
    room TEXT           -- new prefixes begin with these digits; NULL: to be chosen
) STRICT;

-- Only the hash is kept, so that a copy of this file lets nobody in. A token that was traded for a
-- certificate stays until it expires: whoever holds it and the key may fetch the certificate again.
CREATE TABLE token (
    hash BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('mail', 'invitation')),
    email TEXT CHECK (email IS NOT NULL OR kind = 'invitation'),
    prefix_length INTEGER,  -- of the prefix it is good for; NULL: the registry's default
    created REAL NOT NULL,
    expires REAL NOT NULL,
    serial TEXT             -- of the certificate that it was traded for
) STRICT;

CREATE INDEX token_expires ON token (expires);

CREATE INDEX token_created ON token (created, hash);

-- How many mails somebody got lately.
CREATE INDEX token_mailed ON token (lower(email), created) WHERE kind = 'mail';

-- Where nodes can be reached. The slots are 1 to n without a gap, so that a random choice is n look-ups.
CREATE TABLE peer (
    slot INTEGER PRIMARY KEY,
    bits TEXT NOT NULL UNIQUE REFERENCES prefix (bits) ON DELETE CASCADE,
    endpoints TEXT NOT NULL,
    declared REAL NOT NULL
) STRICT;

CREATE INDEX peer_declared ON peer (declared);

-- What the operator set for the whole network; a parameter that is not here has its default.
CREATE TABLE parameter (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    changed REAL NOT NULL
) STRICT;

-- The version of the set of parameters, made like the numbers of revocations; 0: never changed.
CREATE TABLE parameter_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL
) STRICT;

INSERT INTO parameter_version VALUES (1, 0);

-- Who changed what. Never holds a token.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    what TEXT NOT NULL,         -- e.g. 'released'
    subject TEXT NOT NULL,      -- e.g. a prefix, an e-mail address, the name of a parameter
    by TEXT NOT NULL            -- a node's prefix, an e-mail address, 'uid 0', 'registry'
) STRICT;

CREATE INDEX audit_at ON audit (at);

-- At first all of it is free.
INSERT INTO prefix (bits) VALUES ('');
