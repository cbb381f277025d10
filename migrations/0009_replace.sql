-- Messages that take the place of others (RFC 8508): removed and appended in
-- one transaction, and the account is charged the difference. A new function;
-- the previous release does not call it.
-- +goose Up

-- remove_messages writes a record that removes messages of a mailbox at the
-- MODSEQ expected, under locks that the caller has, and returns how many octets of log
-- there are then. It charges nobody: append_messages does, which follows in the same transaction.
-- +goose StatementBegin
CREATE FUNCTION remove_messages(
    t bigint, account bigint, box bigint, expected bigint, rec bytea, base bigint,
    d_messages bigint, d_unseen bigint, d_deleted bigint, d_bytes bigint, d_deleted_bytes bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    log bigint;
BEGIN
    log := write_record(t, account, box, 0, expected, rec, base, 0, d_messages, d_unseen, d_deleted, d_bytes, d_deleted_bytes);
    IF log IS NULL THEN
        RAISE EXCEPTION 'mailbox % is not at %', box, expected USING ERRCODE = 'MS002';
    END IF;
    RETURN log;
END
$$;
-- +goose StatementEnd
