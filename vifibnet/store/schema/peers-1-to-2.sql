-- What nodes say of each other has an age; what the registry says of them has none.
ALTER TABLE peer ADD COLUMN told REAL;
