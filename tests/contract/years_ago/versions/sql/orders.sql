-- Made by pg_dump years ago.
SET LOCAL standard_conforming_strings = on;

CREATE TABLE years_ago_kept.orders (
    id bigint NOT NULL,
    note text DEFAULT 'a; b'::text
);
